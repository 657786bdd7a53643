"""Depth files, read with a stated meaning and written with it.

What the numbers of a file mean is taken, fact by fact, from the caller's flags, else from the
sidecar ``<file>.json`` (or a ``<stem>.json`` with a "kind"), else from the header that this
program writes into EXR and PNG, else from this rule:

========================================  =============  ========  ===========  =========
the file holds                            kind           unit      one step is  invalid
========================================  =============  ========  ===========  =========
8-bit integers                            inverse_depth  relative  1
16-bit integers, the largest > 60000      inverse_depth  relative  1
other integers                            depth          m         0.001 m      0, 65535
PFM                                       inverse_depth  relative
COLMAP .bin, NPY, NPZ, float TIFF         depth          relative               <= 0
EXR                                       depth          relative               >= 1e10
========================================  =============  ========  ===========  =========

A unit of metres or a scale that is stated without a kind means depth. Integers of 16 bits and
more that are stated to be depth are millimetres, unless a unit or a scale is stated too. In 8
bits, and for inverse depth in 1/m, a step has no usual size: it must be stated.

Why: MiDaS and its heirs write 8-bit previews and PFM with near as white, as Middlebury's
disparities are; integers above 60000 mean that a map was stretched to the full range, because
sensors write millimetres and end far below, with 65535 for "saturated"; Blender's depth is 1e10
where nothing is.
NaN, infinity and depths <= 0 are invalid in every format (`crispdepth.types.DepthMap`).
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth import __version__
from crispdepth.io.atomic import atomic_paths, read_bytes
from crispdepth.io.depth_codecs import (
    Stored,
    decode,
    encode_exr,
    encode_npy,
    encode_pfm,
    encode_png,
)
from crispdepth.types import BoolMap, Camera, DepthMap, Float32Map, Kind, Size, Unit

FORMAT_VERSION = 1
"""Of the sidecar; it grows when a reader of an older version would misread a file."""

_STRETCHED = 60000  # a 16-bit maximum beyond this means "stretched to the full range"
_MILLIMETRE = 0.001
_NOTHING_THERE = 1e10  # what Blender and others store as depth where no surface is
_PNG_STEPS = 65535


class ReadDepth(NamedTuple):
    """A depth map, and one sentence on what its numbers were taken to be and on whose word."""

    depth: DepthMap
    stated: str


def read_depth(
    source: str | Path | bytes,
    *,
    kind: Kind | None = None,
    unit: Unit | None = None,
    scale: float | None = None,
    name: str = "",
) -> ReadDepth:
    """The depth map in a file (PNG, TIFF, EXR, PFM, NPY, NPZ or COLMAP .bin) or in its bytes.

    Args:
        source: the file, or its bytes (which have no sidecar).
        kind, unit: what the numbers mean; None: see the table of this module.
        scale: units per stored step, such as 0.001 for millimetres or 0.0002 for TUM.
        name: what errors call the file; the default is its path.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a whole depth file, its sidecar is not one, or its meaning cannot
            be told.
    """
    label = name or (str(source) if not isinstance(source, bytes) else "the depth map")
    flags = {"kind": kind, "unit": unit, "scale": scale}
    stored = decode(source if isinstance(source, bytes) else read_bytes(source), label)
    height, width = stored.values.shape
    size = height, width
    words = [("the caller", _facts(flags, f"The request for {label}", size))]
    if not isinstance(source, bytes):
        words += _sidecar(Path(source), size)
    header = {key: _from_text(text) for key, text in stored.header.items()}
    words.append(("the file header", _facts(header, f"The header of {label}", size)))
    stated: dict[str, Any] = {}
    for _, facts in reversed(words):
        stated |= facts
    meaning = _rule(stored, stated, label) | stated
    values, valid = _restore(stored, meaning, guess_invalid="invalid" not in stated)
    camera = meaning.get("camera")
    try:
        depth = DepthMap(values, meaning["kind"], meaning["unit"], valid, camera)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return ReadDepth(depth, _sentence(stored, meaning, words))


def write_depth(
    path: str | Path,
    depth: DepthMap,
    *,
    scale: float | None = None,
    provenance: Mapping[str, object] = {},
) -> None:
    """Write a depth file and its sidecar ``<file>.json``, which says what the numbers mean.

    The suffix chooses the format: .exr, .npy and .pfm keep float32 exactly; .png has 16 bits,
    millimetres for metric depth and the range stretched to 1..65535 for everything else. Invalid
    is 0 where no value can be 0 (depth, PNG), else NaN.

    Args:
        path: the file.
        depth: the map; its camera is recorded too.
        scale: metres per step of a metric depth PNG, by default 0.001; unused elsewhere.
        provenance: whatever else the sidecar shall record, JSON values (others as text).

    Raises:
        OSError: the file cannot be written.
        ValueError: the suffix is none of these, or a metric depth does not fit 16 bits.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".exr", ".png", ".npy", ".pfm"):
        raise ValueError(f"Cannot write {path}: a depth file is .exr, .png, .npy or .pfm.")
    facts: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": depth.kind,
        "unit": depth.unit,
        "scale": 1.0,
        "offset": 0.0,
        "invalid": 0 if depth.kind == "depth" or suffix == ".png" else "nan",
        "larger_is_nearer": depth.kind == "inverse_depth",
        "width": depth.size[1],
        "height": depth.size[0],
        "camera": depth.camera
        and {"K": depth.camera.K.tolist(), "cam_from_world": depth.camera.cam_from_world.tolist()},
        "tool": "crispdepth",
        "version": __version__,
        "provenance": dict(provenance),
    }
    if suffix == ".png":
        steps, facts["scale"], facts["offset"] = _to_steps(depth, scale, path)
        data = encode_png(steps, _to_text(facts))
    else:
        hole = np.float32(facts["invalid"])
        values = np.where(depth.usable, depth.values, hole)
        encoders: dict[str, Callable[[Float32Map], bytes]] = {
            ".exr": lambda values: encode_exr(
                values, "Z" if depth.kind == "depth" else "Y", _to_text(facts)
            ),
            ".npy": encode_npy,
            ".pfm": encode_pfm,
        }
        data = encoders[suffix](values)
    # Together: numbers whose meaning is unknown, or that of other numbers, are worse than none.
    with atomic_paths(path, sidecar_path(path)) as (file, sidecar):
        file.write_bytes(data)
        sidecar.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")


def sidecar_path(path: Path) -> Path:
    """Where `write_depth` says what the numbers of a depth file mean."""
    return path.with_name(path.name + ".json")


def _sidecar(path: Path, size: Size) -> list[tuple[str, dict[str, Any]]]:
    """What the sidecar of ``path`` says, if there is one."""
    own, shared = sidecar_path(path), path.with_suffix(".json")
    if os.path.isfile(own):  # unlike Path.is_file it is merely false for a name that is too long
        facts = _from_json(own)
        if not isinstance(facts, dict):
            raise ValueError(f"The sidecar {own} is not a JSON object; correct or remove it.")
        return [(f"the sidecar {own.name}", _facts(facts, f"The sidecar {own}", size))]
    if os.path.isfile(shared):
        # Many tools write <stem>.json about something else; only a known kind makes it ours.
        try:
            facts = _from_json(shared)
        except ValueError:
            return []
        if isinstance(facts, dict) and facts.get("kind") in get_args(Kind):
            return [(f"the sidecar {shared.name}", _facts(facts, f"The sidecar {shared}", size))]
    return []


def _from_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"The sidecar {path} is not valid JSON ({error}); correct or remove it."
        ) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: value in get_args(Kind), " or ".join(get_args(Kind))),
    "unit": (lambda value: value in get_args(Unit), " or ".join(get_args(Unit))),
    "scale": (lambda value: _is_number(value) and value > 0, "a positive number"),
    "offset": (_is_number, "a number"),
    "invalid": (lambda value: _is_number(value) or value == "nan", 'a number or "nan"'),
    "width": (_is_number, "a number of pixels"),
    "height": (_is_number, "a number of pixels"),
    "format_version": (_is_number, "a number"),
}


def _facts(raw: Mapping[str, Any], origin: str, size: Size) -> dict[str, Any]:
    """What ``raw`` states about a map of ``size``, checked; None and unknown keys state nothing."""
    facts = {key: raw[key] for key in _CHECKS if raw.get(key) is not None}
    for key, value in facts.items():
        is_right, expected = _CHECKS[key]
        if not is_right(value):
            raise ValueError(f'{origin} says "{key}": {value!r}; it must be {expected}.')
    if facts.pop("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise ValueError(f"{origin} was written by a newer crispdepth; update this one.")
    stated_size = facts.pop("height", size[0]), facts.pop("width", size[1])
    if stated_size != size:
        raise ValueError(
            f"{origin} is for (height, width) {stated_size}, the depth map has {size}: it belongs "
            "to another file. Correct or remove it."
        )
    if raw.get("camera") is not None:
        try:
            K, cam_from_world = raw["camera"]["K"], raw["camera"]["cam_from_world"]
            facts["camera"] = Camera(K, size, cam_from_world)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{origin} has no valid camera: {error}") from error
    return facts


def _to_text(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as header attributes: text as it is, everything else as JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in facts.items()
    }


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _rule(stored: Stored, stated: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The table of this module: what is not stated follows from what is and from the file."""
    is_integer = stored.values.dtype.kind in "iu"
    is_byte = is_integer and stored.values.dtype.itemsize == 1
    larger_is_nearer = is_byte or stored.format == "PFM" or _is_stretched(stored.values)
    is_metric = stated.get("unit") == "m" or "scale" in stated
    kind = stated.get("kind", "inverse_depth" if larger_is_nearer and not is_metric else "depth")
    is_sensor_like = is_integer and not is_byte and kind == "depth"
    in_metres = is_sensor_like or (kind == "depth" and "scale" in stated)
    unit = stated.get("unit", "m" if in_metres else "relative")
    if unit == "m" and is_integer and not is_sensor_like and "scale" not in stated:
        raise ValueError(
            f"{label} is stated to be {kind} in metres, but {_numbers(stored)} have no usual "
            "step; state the scale too (units per stored step)."
        )
    scale = _MILLIMETRE if is_sensor_like and unit == "m" else 1.0
    invalid = 0 if kind == "depth" else None
    return {"kind": kind, "unit": unit, "scale": scale, "offset": 0.0, "invalid": invalid}


def _is_stretched(values: NDArray[Any]) -> bool:
    is_16_bit = values.dtype.kind == "u" and values.dtype.itemsize == 2
    return is_16_bit and bool(values.max() > _STRETCHED)


def _restore(
    stored: Stored, meaning: Mapping[str, Any], guess_invalid: bool
) -> tuple[Float32Map, BoolMap]:
    """The values in their unit, and where there is one."""
    raw, invalid = stored.values, meaning["invalid"]
    valid = np.ones(raw.shape, bool) if stored.visible is None else stored.visible
    if _is_number(invalid):
        valid = valid & (raw != invalid)
    if guess_invalid and meaning["kind"] == "depth":
        if stored.format == "EXR":
            valid = valid & (raw < _NOTHING_THERE)
        elif raw.dtype.kind == "u" and raw.dtype.itemsize == 2 and meaning["unit"] == "m":
            valid = valid & (raw != _PNG_STEPS)
    scale, offset = float(meaning["scale"]), float(meaning["offset"])
    with np.errstate(over="ignore", invalid="ignore"):  # DepthMap marks what overflows invalid
        if (scale, offset) != (1.0, 0.0):
            raw = raw.astype(np.float64) * scale + offset
        return raw.astype(np.float32, order="C"), valid


def _numbers(stored: Stored) -> str:
    """What is stored, in words."""
    dtype = stored.values.dtype
    if dtype.kind == "f":
        return "float TIFF" if stored.format == "picture" else stored.format
    above = "above" if _is_stretched(stored.values) else "up to"
    return f"{dtype.itemsize * 8}-bit integers" + f" {above} {_STRETCHED}" * (dtype.itemsize == 2)


def _sentence(
    stored: Stored, meaning: Mapping[str, Any], words: list[tuple[str, dict[str, Any]]]
) -> str:
    """What the numbers were taken to be, on whose word, and whose word was overruled."""
    noun = meaning["kind"].replace("_", " ")
    if meaning["unit"] == "m":
        noun += " in metres" if meaning["kind"] == "depth" else " in 1/metres"
    else:
        noun = "relative " + noun
    if stored.values.dtype.kind in "iu" and meaning["unit"] == "m":
        noun += f", {meaning['scale']:g} per stored step"
    elif meaning["scale"] != 1:
        noun += f", the stored numbers times {meaning['scale']:g}"
    origin = {key: name for name, facts in reversed(words) for key in facts}
    kind_from, unit_from = (
        origin.get(key, f"the rule for {_numbers(stored)}") for key in ("kind", "unit")
    )
    on_word = f"kind and unit from {kind_from}"
    if kind_from != unit_from:
        on_word = f"kind from {kind_from}, unit from {unit_from}"
    overruled = [
        f"; {name} says {key} {facts[key]} and was overruled"
        for name, facts in words
        for key in ("kind", "unit", "scale")
        if key in facts and facts[key] != meaning[key]
    ]
    return f"{noun} ({on_word}{''.join(overruled)})"


def _to_steps(
    depth: DepthMap, scale: float | None, path: Path
) -> tuple[NDArray[np.uint16], float, float]:
    """The map in 16-bit steps, 0 = invalid, with the scale and offset that restore it."""
    values = depth.values[depth.usable].astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)
    offset = 0.0
    if depth.kind == "depth" and depth.unit == "m":
        scale = _MILLIMETRE if scale is None else scale
        _facts({"scale": scale}, "The PNG", depth.size)
        ticks = np.rint(values / scale)
        if values.size and not (ticks.min() >= 1 and ticks.max() <= _PNG_STEPS):
            raise ValueError(_does_not_fit(path, low, high, scale))
    else:
        scale = (high - low) / (_PNG_STEPS - 1) or abs(low) or 1.0
        offset = low - scale
        if offset + scale < low:  # rounding must not restore a smallest depth as 0, not measured
            offset = math.nextafter(offset, math.inf)
        ticks = np.rint((values - low) / scale) + 1
    steps = np.zeros(depth.size, np.uint16)
    steps[depth.usable] = ticks
    return steps, scale, offset


def _does_not_fit(path: Path, low: float, high: float, scale: float) -> str:
    digit = 10.0 ** (math.floor(math.log10(high / _PNG_STEPS)) - 1)
    fitting = math.ceil(high / _PNG_STEPS / digit) * digit  # rounded up to two digits
    advice = f"use a scale of {fitting:g} (--png-scale {fitting:g}) or write .exr"
    return (
        f"Cannot write {path}: depths from {low:g} to {high:g} m do not fit 16 bits with steps of "
        f"{scale:g} m ({scale:g} to {_PNG_STEPS * scale:g} m); "
        + (advice if low >= fitting else "no step fits them, write .exr")
        + "."
    )
