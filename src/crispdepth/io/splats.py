"""Gaussians to files and back: PLY as 3DGS writes it, and SPZ, a tenth of its size.

**PLY** (binary, little-endian): ``x y z nx ny nz f_dc_0..2 f_rest_* opacity scale_0..2 rot_0..3``,
all float32; the opacity is a logit, scales are logarithms, rotations w x y z, ``f_rest`` all of
red, then green, then blue. Labels of objects, which the format has no place for, are left out.

**SPZ** (github.com/nianticlabs/spz; versions 2 and 3 are read, 3 is written): gzip, 24-bit fixed
point positions, 8 bits for everything else but rotations. Its axes are x right, y up, z back, those
of PLY x right, y down, z forward, so a half turn about x lies between them.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import read_bytes, write_bytes
from crispdepth.io.ply import read_ply_rows
from crispdepth.types import Gaussians

SUFFIXES = (".ply", ".spz")

_FIELDS = {1: 0, 4: 9, 9: 24, 16: 45}  # coefficients -> how many f_rest there are
_LEAST, _MOST = 1e-6, 1 - 1e-6  # opacities whose logits are finite

_SPZ_MAGIC = 0x5053474E
_SPZ_HEADER = np.dtype(
    [("magic", "<u4"), ("version", "<u4"), ("count", "<u4"), ("degree", "u1"),
     ("fraction", "u1"), ("flags", "u1"), ("reserved", "u1")]
)  # fmt: skip
_SPZ_FRACTION = 12  # bits: a quarter of a thousandth of the unit
_SPZ_COLOUR = 0.15
_SPZ_SH = (1, 8, 16)  # steps of 1/128 to which degree 1, and those above, are rounded
# Signs of the harmonics of degrees 1 to 3 under a half turn about x.
_SPZ_TURN = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)


def write_splats(path: str | Path, gaussians: Gaussians) -> None:
    """Write Gaussians, atomically; the suffix chooses PLY or SPZ.

    Raises:
        ValueError: the suffix is neither, there is no Gaussian, or, for SPZ, one is so far away
            that its position cannot be stored.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Cannot write {path}: Gaussians are {' or '.join(SUFFIXES)}.")
    if not len(gaussians):
        raise ValueError(f"There is no Gaussian to write to {path}.")
    write_bytes(path, (_to_ply if path.suffix.lower() == ".ply" else _to_spz)(gaussians))


def read_splats(path: str | Path) -> Gaussians:
    """Read Gaussians of PLY or SPZ; what the file is decides, not its name.

    Raises:
        ValueError: the file is neither, is cut off, or holds something else than Gaussians.
        OSError: it cannot be read.
    """
    data = read_bytes(path)
    if data[:3] == b"ply":
        return _from_ply(path)
    if data[:2] == b"\x1f\x8b":
        return _from_spz(data, str(path))
    raise ValueError(f"{path} holds no Gaussians: it is neither PLY nor SPZ.")


def _to_ply(gaussians: Gaussians) -> bytes:
    count, coefficients = gaussians.sh.shape[:2]
    opacities = gaussians.opacities.astype(np.float64).clip(_LEAST, _MOST)
    columns = [
        gaussians.means,
        np.zeros((count, 3)),
        gaussians.sh[:, 0],
        gaussians.sh[:, 1:].transpose(0, 2, 1).reshape(count, -1),
        np.log(opacities / (1 - opacities))[:, None],
        np.log(gaussians.scales),
        gaussians.rotations,
    ]
    names = [*_names("x y z nx ny nz f_dc_0 f_dc_1 f_dc_2"), *_rest(coefficients), "opacity"]
    names += _names("scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name in names]
    table = np.concatenate(columns, axis=1).astype("<f4")
    return "\n".join([*lines, "end_header\n"]).encode() + table.tobytes()


def _from_ply(path: str | Path) -> Gaussians:
    label, table = str(path), read_ply_rows(path)["vertex"]
    names = table.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in names)
    coefficients = {fields: count for count, fields in _FIELDS.items()}.get(rest)
    needed = _names("x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2")
    needed += _names("rot_0 rot_1 rot_2 rot_3")
    missing = [name for name in needed if name not in names]
    if missing or coefficients is None:
        what = f"no {', '.join(missing)}" if missing else f"{rest} values f_rest"
        raise ValueError(
            f"{label} holds no Gaussians as 3DGS writes them: it has {what}. A mesh or a point "
            "cloud is none."
        )

    def stack(names: list[str]) -> NDArray[np.float32]:
        if not names:
            return np.zeros((len(table), 0), np.float32)
        return np.stack([table[name].astype(np.float32) for name in names], axis=1)

    base = stack(_names("f_dc_0 f_dc_1 f_dc_2"))[:, None]
    more = stack(_rest(coefficients)).reshape(len(table), 3, -1).transpose(0, 2, 1)
    opacity = table["opacity"].astype(np.float64)
    return _gaussians(
        label,
        means=stack(_names("x y z")),
        scales=np.exp(stack(_names("scale_0 scale_1 scale_2"))),
        rotations=stack(_names("rot_0 rot_1 rot_2 rot_3")),
        opacities=1 / (1 + np.exp(-opacity.clip(-700, 700))),
        sh=np.concatenate([base, more], axis=1),
    )


def _to_spz(gaussians: Gaussians) -> bytes:
    count, coefficients = gaussians.sh.shape[:2]
    fixed = np.rint(gaussians.means.astype(np.float64) * (1, -1, -1) * 2**_SPZ_FRACTION)
    if np.abs(fixed).max() >= 2**23:
        raise ValueError(
            f"SPZ stores positions up to {2 ** (23 - _SPZ_FRACTION)} from the origin, the farthest "
            f"Gaussian is at {np.abs(gaussians.means).max():.4g}; write .ply."
        )
    header = np.zeros((), _SPZ_HEADER)
    degree = round(coefficients**0.5) - 1
    for name, value in (
        ("magic", _SPZ_MAGIC), ("version", 3), ("count", count), ("degree", degree),
        ("fraction", _SPZ_FRACTION),
    ):  # fmt: skip
        header[name] = value
    positions = fixed.astype("<i4").view(np.uint8).reshape(count, 3, 4)[..., :3]
    harmonics = np.rint(gaussians.sh[:, 1:] * _SPZ_TURN[: coefficients - 1, None] * 128) + 128
    step = np.array([_SPZ_SH[1]] * 3 + [_SPZ_SH[2]] * 12)[: coefficients - 1, None]
    harmonics = (harmonics + step // 2) // step * step
    parts = [
        positions,
        _bytes(gaussians.opacities * 255),
        _bytes(gaussians.sh[:, 0] * (_SPZ_COLOUR * 255) + 127.5),
        _bytes((np.log(gaussians.scales) + 10) * 16),
        _pack_rotations(gaussians.rotations),
        _bytes(harmonics),
    ]
    return gzip.compress(header.tobytes() + b"".join(map(np.ndarray.tobytes, parts)), mtime=0)


def _from_spz(data: bytes, label: str) -> Gaussians:
    try:
        raw = gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{label} is damaged ({error}); copy it again.") from error
    header = np.frombuffer(raw[:16].ljust(16, b"\0"), _SPZ_HEADER)[0]
    if header["magic"] != _SPZ_MAGIC or header["version"] not in (2, 3) or header["degree"] > 3:
        raise ValueError(f"{label} is not SPZ of version 2 or 3 with harmonics up to degree 3.")
    count, rest = int(header["count"]), (int(header["degree"]) + 1) ** 2 - 1
    widths = (9, 1, 3, 3, 4 if header["version"] == 3 else 3, 3 * rest)
    if len(raw) < 16 + count * sum(widths):
        raise ValueError(f"{label} is cut off: {count} Gaussians do not fit; copy it again.")
    ends = 16 + count * np.cumsum((0, *widths))
    positions, alphas, colours, scales, turns, harmonics = (
        np.frombuffer(raw, np.uint8, count * width, start).reshape(count, width)
        for width, start in zip(widths, ends[:-1], strict=True)
    )
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = positions.reshape(count, 3, 3)  # shifted down again, with its sign
    metres = (fixed.view("<i4")[..., 0] >> 8) / 2.0 ** int(header["fraction"])
    rotations = _unpack_rotations(turns) if header["version"] == 3 else _unpack_first(turns)
    rotations[:, 2:] *= -1
    base = (colours / 255 - 0.5) / _SPZ_COLOUR
    more = (harmonics.reshape(count, rest, 3) / 128 - 1) * _SPZ_TURN[:rest, None]
    return _gaussians(
        label,
        means=metres * [1, -1, -1],
        scales=np.exp(scales / 16 - 10),
        rotations=rotations,
        opacities=alphas[:, 0] / 255,
        sh=np.concatenate([base[:, None], more], axis=1),
    )


def _pack_rotations(rotations: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, 4) bytes: which of x y z w is largest (2 bits), the others as sign and 9 bits."""
    turned = rotations[:, [1, 2, 3, 0]] * np.array([1, -1, -1, 1])  # x y z w after the half turn
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    largest = np.abs(turned).argmax(axis=1)
    signs = np.take_along_axis(turned, largest[:, None], axis=1)[:, 0] < 0
    packed = largest.astype(np.uint32)
    for index in range(4):
        value = turned[:, index]
        size = (511 * np.abs(value) * np.sqrt(2) + 0.5).astype(np.uint32).clip(0, 511)
        coded = (packed << 10) | (((value < 0) ^ signs).astype(np.uint32) << 9) | size
        packed = np.where(largest == index, packed, coded).astype(np.uint32)
    out: NDArray[np.uint8] = packed.astype("<u4").view(np.uint8).reshape(-1, 4)
    return out


def _unpack_rotations(packed: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 4) w x y z of `_pack_rotations`."""
    bits = np.ascontiguousarray(packed).view("<u4")[:, 0]
    largest, values = (bits >> 30).astype(np.intp), np.zeros((len(bits), 4))
    for index in (3, 2, 1, 0):
        size = (bits & 511) / (511 * np.sqrt(2)) * np.where(bits >> 9 & 1, -1, 1)
        values[:, index] = np.where(largest == index, 0, size)
        bits = np.where(largest == index, bits, bits >> 10)
    left = np.sqrt((1 - np.square(values).sum(axis=1)).clip(0, 1))
    np.put_along_axis(values, largest[:, None], left[:, None], axis=1)
    return values[:, [3, 0, 1, 2]]


def _unpack_first(packed: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 4) w x y z of version 2, which stores x y z."""
    values = packed / 127.5 - 1
    w = np.sqrt((1 - np.square(values).sum(axis=1)).clip(0, 1))
    return np.concatenate([w[:, None], values], axis=1)


def _gaussians(
    label: str,
    means: NDArray[Any],
    scales: NDArray[Any],
    rotations: NDArray[Any],
    opacities: NDArray[Any],
    sh: NDArray[Any],
) -> Gaussians:
    """The Gaussians of a file, with rotations of unit length."""
    length = np.linalg.norm(rotations, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rotations = np.where(length > 0, rotations / length, [1, 0, 0, 0])
    try:
        return Gaussians(
            means.astype(np.float32),
            scales.astype(np.float32),
            rotations.astype(np.float32),
            opacities.astype(np.float32),
            sh.astype(np.float32),
        )
    except ValueError as error:
        raise ValueError(f"{label} is damaged: {error}") from error


def _names(text: str) -> list[str]:
    return text.split()


def _rest(coefficients: int) -> list[str]:
    return [f"f_rest_{index}" for index in range(_FIELDS[coefficients])]


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)
