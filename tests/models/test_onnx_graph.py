"""What an ONNX file does first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from crispdepth.models.onnx_graph import takes_bytes

WriteOnnx = Callable[..., Path]
IMAGE = {"image": [1, 3, 4, 4]}


@pytest.mark.parametrize(
    ("operator", "constant", "expected"),
    [
        ("Div", 255.0, True),
        ("Mul", 1 / 255, True),
        ("Mul", 255.0, False),
        ("Div", 127.5, False),
        ("Add", 255.0, False),
    ],
)
def test_a_division_of_the_input_by_255_is_seen(
    tmp_path: Path, write_onnx: WriteOnnx, operator: str, constant: float, expected: bool
) -> None:
    node = helper.make_node(operator, ["image", "c"], ["out"])
    stored = numpy_helper.from_array(np.array(constant, np.float32), "value")  # as raw bytes
    from_node = [helper.make_node("Constant", [], ["c"], value=stored), node]
    for nodes, constants in ((from_node, {}), ([node], {"c": constant})):
        path = write_onnx(tmp_path / "net.onnx", nodes, IMAGE, ["out"], constants)
        assert takes_bytes(path.read_bytes(), "image") == expected


def test_only_the_first_thing_that_happens_to_the_input_counts(
    tmp_path: Path, write_onnx: WriteOnnx
) -> None:
    nodes = [
        helper.make_node("Sub", ["image", "c"], ["less"]),
        helper.make_node("Div", ["less", "c"], ["out"]),
    ]
    path = write_onnx(tmp_path / "net.onnx", nodes, IMAGE, ["out"], {"c": 255.0})
    assert not takes_bytes(path.read_bytes(), "image")
    assert takes_bytes(path.read_bytes(), "less"), "were that the input"


@given(st.binary(max_size=200))
def test_whatever_is_no_model_takes_no_bytes(data: bytes) -> None:
    assert not takes_bytes(data, "image")
