from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets import RgbdFrame
from crispdepth.types import DepthMap

PARTS: dict[str, Any] = {
    "image": np.zeros((4, 6, 3), np.uint8),
    "depth": DepthMap(np.ones((4, 6), np.float32), "depth", "m"),
    "instances": np.zeros((4, 6), np.int32),
}


def test_instances_may_be_missing() -> None:
    assert RgbdFrame("a", **PARTS | {"instances": None}).instances is None


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("image", np.zeros((5, 6, 3), np.uint8), r"frame a differ in size: image \(5, 6\)"),
        ("instances", np.zeros((4, 7), np.int32), r"instances \(4, 7\)"),
        ("depth", DepthMap(np.ones((2, 6), np.float32), "depth"), r"depth \(2, 6\)"),
        ("image", np.zeros((4, 6), np.uint8), r"must be \(h, w, 3\) uint8, got \(4, 6\)"),
        ("image", np.zeros((4, 6, 3), np.float32), "float32"),
        ("depth", DepthMap(np.ones((4, 6), np.float32), "inverse_depth"), "got inverse_depth"),
        ("instances", np.zeros((4, 6), np.uint8), "must be int32, got uint8"),
    ],
)
def test_parts_that_do_not_fit_are_refused(part: str, value: Any, problem: str) -> None:
    RgbdFrame("a", **PARTS)  # all the others fit
    with pytest.raises(ValueError, match=problem):
        RgbdFrame("a", **PARTS | {part: value})
