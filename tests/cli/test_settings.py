"""Configs are changed by name, and what does not fit is answered with what would."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from crispdepth.cli.errors import UsageError
from crispdepth.cli.settings import with_settings


@dataclass(frozen=True)
class Inner:
    on: bool = True
    way: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Outer:
    count: int = 3
    share: float = 0.5
    sizes: tuple[int, int] = (1, 2)
    inner: Inner = field(default_factory=Inner)


def test_values_of_all_kinds_are_changed() -> None:
    settings = ("count=4", "share=1", "sizes=8,9", "inner.on=false", "inner.way=right")
    changed = with_settings(Outer(), settings, "--set")
    assert changed == Outer(4, 1.0, (8, 9), Inner(False, "right"))
    assert with_settings(Outer(), (), "--set") == Outer()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("number=4", "--set number=4: the names are count, share, sizes, inner"),
        ("count=four", "count must be a whole number"),
        ("count", "count must be a whole number"),
        ("count.x=1", "count has no parts"),
        ("sizes=1", "sizes must be 2 numbers, a comma between them"),
        ("inner=1", "say which of inner.on, inner.way"),
        ("inner.off=1", "the names are on, way"),
        ("inner.on=yes", "on must be true or false"),
        ("inner.way=up", "choose one of left, right"),
    ],
)
def test_what_does_not_fit_is_answered_with_what_would(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        with_settings(Outer(), (setting,), "--set")
