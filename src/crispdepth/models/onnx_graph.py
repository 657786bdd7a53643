"""The one fact about an ONNX file that its runtime does not tell: what its first node does.

An ONNX file is a protocol buffer message, and the numbers below are those of its fields in
``onnx.proto``. Walking them copies no weights, and needs no package that the plain install lacks.
"""

import struct
from collections.abc import Iterator

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_TENSOR = 5  # of an attribute
_FLOAT_DATA, _NAME, _RAW_DATA = 4, 8, 9  # of a tensor

_SCALINGS = {b"Div": struct.pack("<f", 255), b"Mul": struct.pack("<f", 1 / 255)}


def takes_bytes(model: bytes, input_name: str) -> bool:
    """Whether the first thing an ONNX model does to this input is to divide it by 255."""
    constants: dict[bytes, bytes] = {}
    try:
        (graph,) = _all(memoryview(model), _GRAPH)
        for tensor in _all(graph, _INITIALIZER):
            constants[_bytes(tensor, _NAME)] = _content(tensor)
        for node in _all(graph, _NODE):
            for attribute in _all(node, _ATTRIBUTE):
                for tensor in _all(attribute, _TENSOR):
                    constants[_bytes(node, _OUTPUT)] = _content(tensor)
            inputs = [bytes(name) for name in _all(node, _INPUT)]
            if input_name.encode() in inputs:
                scaling = _SCALINGS.get(_bytes(node, _OP_TYPE))
                return scaling is not None and constants.get(inputs[-1]) == scaling
    except (IndexError, ValueError):  # this is no model; whoever runs it says so
        pass
    return False


def _content(tensor: memoryview) -> bytes:
    """The numbers of a float tensor, little-endian, if there are few."""
    values = [*_all(tensor, _RAW_DATA), *_all(tensor, _FLOAT_DATA)]
    return bytes(values[0][:8]) if values else b""


def _bytes(message: memoryview, field: int) -> bytes:
    return b"".join(map(bytes, _all(message, field)))


def _all(message: memoryview, field: int) -> Iterator[memoryview]:
    """The values of a field that is a text, a message or packed."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        length = {1: 8, 5: 4}.get(tag & 7, 0)
        if tag & 7 in (0, 2):
            number, at = _varint(message, at)
            length = number if tag & 7 == 2 else 0
        if tag == field << 3 | 2:
            yield message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    number = shift = 0
    while message[at] & 0x80:
        number |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | message[at] << shift, at + 1
