"""The completers by name. Importing this module costs nothing: each is imported when it is made."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from crispdepth.types import LayerCompleter

EngineName = Literal["learned", "classical"]

DEFAULT_ENGINE: EngineName = "learned"
"""What completes layers where nobody says so."""


def make_completer(
    engine: EngineName | None = None,
    *,
    weights: str | Path | None = None,
    resolution: int | None = None,
    tiled: bool = False,
) -> "LayerCompleter":
    """The completer of that name, loaded: it is made once and may be used for many photos.

    Args:
        engine: see `EngineName`; None: `DEFAULT_ENGINE`.
        weights, resolution, tiled: those of `LearnedCompleter`; None: its defaults.

    Raises:
        FileNotFoundError: there are no such weights.
        OSError: a file of the weights cannot be read.
        ValueError: there is no such engine, an option is not for it or makes no sense, or the
            weights are damaged.
    """
    engine = DEFAULT_ENGINE if engine is None else engine
    given = {"weights": weights, "resolution": resolution, "tiled": tiled or None}
    options = {name: value for name, value in given.items() if value is not None}
    if engine == "learned":
        make = _own if weights is not None else _shipped
        return make(**options)
    if engine != "classical":
        raise ValueError(f"The engines are 'learned' and 'classical'; got {engine!r}.")
    if options:
        raise ValueError(
            f"{' and '.join(options)} only the engine 'learned' has; this one is {engine!r}."
        )
    from crispdepth.models.classical import ClassicalCompleter

    return ClassicalCompleter()


def _own(**options: Any) -> "LayerCompleter":
    from crispdepth.models.learned import LearnedCompleter

    return LearnedCompleter(**options)


@cache  # the shipped weights do not change while a program runs
def _shipped(**options: Any) -> "LayerCompleter":
    return _own(**options)


def facts_of(completer: "LayerCompleter") -> dict[str, object]:
    """What decides the answers of a completer that `make_completer` made, as JSON values."""
    if completer.name != "learned":
        return {"engine": completer.name}
    from crispdepth.models.learned import LearnedCompleter

    assert isinstance(completer, LearnedCompleter)
    return {
        "engine": completer.name,
        "weights": completer.sha256,
        "resolution": completer.resolution,
        "tiled": completer.tiled,
    }
