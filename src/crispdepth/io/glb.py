"""The container of glTF 2.0 binary files: a JSON document and the arrays it describes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COMPONENTS = {np.dtype("<f4"): 5126, np.dtype("<u4"): 5125}  # glTF's numbers of types
_LIMIT = 2**32  # bytes: its lengths are uint32


def glb(
    mode: int, attributes: Mapping[str, NDArray[Any]], indices: NDArray[np.uint32] | None = None
) -> bytes:
    """A file that shows one primitive.

    Args:
        mode: of glTF: 0 points, 4 triangles.
        attributes: glTF's name -> (n, 3) float32.
        indices: (m,) of the vertices; None: the vertices in their order.

    Raises:
        ValueError: it would be larger than the format allows.
    """
    arrays = [np.asarray(values, "<f4") for values in attributes.values()]
    accessors = [_accessor(i, values, "VEC3") for i, values in enumerate(arrays)]
    primitive: dict[str, Any] = {"mode": mode}
    primitive["attributes"] = {name: i for i, name in enumerate(attributes)}
    place = arrays[list(attributes).index("POSITION")]
    accessors[primitive["attributes"]["POSITION"]] |= {
        "min": place.min(axis=0).tolist(),
        "max": place.max(axis=0).tolist(),
    }
    if indices is not None:
        primitive["indices"] = len(arrays)
        accessors.append(_accessor(len(arrays), np.asarray(indices, "<u4"), "SCALAR"))
        arrays.append(np.asarray(indices, "<u4"))
    sizes = [values.nbytes for values in arrays]
    if sum(sizes) >= _LIMIT - 2**16:
        raise ValueError(f"{len(place)} vertices are too many for GLB (4 GB); write .ply.")
    document = {
        "asset": {"version": "2.0", "generator": "crispdepth"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": sum(sizes[:i]), "byteLength": size}
            for i, size in enumerate(sizes)
        ],
        "buffers": [{"byteLength": sum(sizes)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + sum(sizes)
    heads = [_words(b"glTF", 2, length), _words(len(text), b"JSON"), _words(sum(sizes), b"BIN\0")]
    # All at once: each step on the way would be a copy.
    data = [np.ascontiguousarray(values).data for values in arrays]
    return b"".join([*heads[:2], text, heads[2], *data])


def _words(*words: int | bytes) -> bytes:
    """Numbers as uint32 between what is bytes already."""
    return b"".join(np.array([w], "<u4").tobytes() if isinstance(w, int) else w for w in words)


def _accessor(view: int, values: NDArray[Any], kind: str) -> dict[str, Any]:
    return {
        "bufferView": view,
        "componentType": _COMPONENTS[values.dtype],
        "count": len(values),
        "type": kind,
    }
