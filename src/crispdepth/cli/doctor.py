"""``crispdepth doctor``: what is installed, and whether it works, found out by using it."""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crispdepth import __version__
from crispdepth.cli.errors import ExitCode, one_line
from crispdepth.models.engines import EngineName
from crispdepth.models.weights import (
    DEFAULT,
    DEFAULT_MULTIVIEW,
    DEFAULT_STEREO,
    DEFAULT_VOLUME,
    require_whole,
)

if TYPE_CHECKING:
    from crispdepth.types import RefinedDepth

# Distribution -> the module whose import shows that it works; none: it only has to be there.
NEEDED = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "Pillow": "PIL.Image",
    "OpenEXR": "OpenEXR",
    "onnxruntime": "onnxruntime",
    "tyro": "tyro",
    "rich": "rich",
}
EXTRAS = {
    "auto": {"transformers": "transformers", "rembg": ""},  # rembg compiles itself for a minute
    "bench": {"scikit-image": "skimage", "scipy": "scipy"},
    "sfm": {"pycolmap": "pycolmap"},
    "synth": {"mitsuba": "mitsuba"},
    "torch": {"torch": "torch"},
}


@dataclass(frozen=True)
class DoctorOptions:
    """Check this installation by running it; exit code 1 if something needed is broken."""

    # Print the findings as JSON.
    json: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "absent", "warning", "broken"]  # only broken is a failure
    detail: str


def run(options: DoctorOptions) -> int:
    """Run ``crispdepth doctor`` and return its exit code."""
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not options.json:
            print(f"{finding.state:<8}{finding.name:<28}{finding.detail}")
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    broken = any(finding.state == "broken" for finding in findings)
    return ExitCode.FAILURE if broken else ExitCode.OK


def _examine() -> Iterator[Finding]:
    yield Finding("crispdepth", "ok", __version__)
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("processors", "ok", str(os.cpu_count()))
    yield Finding("memory", "ok", _memory())
    for distribution, module in NEEDED.items():
        yield _try(distribution, partial(_import, distribution, module))
    for extra, modules in EXTRAS.items():
        for distribution, module in modules.items():
            found = _try(distribution, partial(_import, distribution, module))
            yield _optional(found, f'not installed; pip install "crispdepth[{extra}]" brings it')
    with tempfile.TemporaryDirectory() as folder:
        for name, check in CHECKS.items():
            yield _try(name, partial(check, Path(folder)))
        yield _try(f"weights {DEFAULT}", partial(_refine, "learned", Path(folder)))
    for name in (DEFAULT_MULTIVIEW, DEFAULT_VOLUME, DEFAULT_STEREO):
        yield _try(f"weights {name}", partial(_whole, name))
    here = _try("this folder", _write_here)
    yield _optional(here, "cannot be written; name another with -o", state="warning")


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", check())
    except Exception as error:  # a broken library may raise anything, and saying so is the job
        return Finding(name, "broken", f"{type(error).__name__}: {one_line(error)}")


def _optional(
    finding: Finding, advice: str, state: Literal["absent", "warning"] = "absent"
) -> Finding:
    return finding if finding.state == "ok" else replace(finding, state=state, detail=advice)


def _memory() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return "unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB"


def _import(distribution: str, module: str) -> str:
    if module:
        import_module(module)
    return version(distribution)


def _write_here() -> str:
    with tempfile.TemporaryFile(dir="."):
        return f"{Path.cwd()} can be written"


def _round_trip(suffix: str, bits: int, tolerance: int, folder: Path) -> str:
    """Write a picture, read it, compare; ``tolerance`` of the mean, in steps of 8 bits."""
    import numpy as np
    from PIL import Image

    from crispdepth.io.images import read_image, write_image

    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3)
    picture = ramp.astype(np.uint8) if bits == 8 else (ramp * 257).astype(np.uint16)
    path = folder / f"picture{suffix}"
    if suffix == ".tiff":
        Image.fromarray(picture).save(path)
    else:
        write_image(path, picture)
    found = read_image(path).rgb
    error = np.abs(found.astype(float) - picture).mean() / (2**bits - 1) * 255
    if found.dtype != picture.dtype or error > tolerance:
        raise ValueError(f"read back as {found.dtype} with a mean error of {error:.2f} of 255")
    return "written and read back"


def _depth_exr(folder: Path) -> str:
    import numpy as np

    from crispdepth.io.depths import read_depth, write_depth
    from crispdepth.types import DepthMap

    depth = DepthMap(np.linspace(1, 9, 12, dtype=np.float32).reshape(3, 4), "depth", "m")
    write_depth(folder / "depth.exr", depth)
    if not np.array_equal(read_depth(folder / "depth.exr").depth.values, depth.values):
        raise ValueError("other values came back")
    return "written and read back, bit for bit"


def _refined(engine: EngineName) -> "RefinedDepth":
    """A near disc with a blurred boundary before a wall, refined with its mask."""
    import cv2
    import numpy as np

    from crispdepth import refine

    y, x = np.mgrid[:96, :128]
    disc = np.hypot(y - 48, x - 64) < 28
    image = np.array([[60, 90, 120], [200, 120, 60]], np.uint8)[disc.astype(int)]
    rough = cv2.GaussianBlur(np.where(disc, 1.0, 0.25).astype(np.float32), (0, 0), 4)
    # By name, so that the files are read anew, whatever was loaded before.
    weights = DEFAULT if engine == "learned" else None
    return refine(image, rough, disc, kind="inverse_depth", engine=engine, weights=weights)


def _layers_exr(folder: Path) -> str:
    import OpenEXR

    from crispdepth.io.layers import write_layers_exr

    write_layers_exr(folder / "layers.exr", _refined("classical"))
    parts = len(OpenEXR.File(str(folder / "layers.exr")).parts)
    if parts < 2:
        raise ValueError(f"{parts} part came back where a layer pair has 2")
    return f"written and read back, {parts} parts"


def _refine(engine: EngineName, folder: Path) -> str:
    started = time.perf_counter()
    refined = _refined(engine)
    seconds = time.perf_counter() - started
    if not refined.changed.any():
        raise ValueError("a blurred boundary was left as it was")
    refined.save(folder / "refined")
    return f"128 x 96 pixels in {seconds:.3f} s"


def _whole(weights: str) -> str:
    """Of weights that only torch can run, which may not be installed and is slow to import."""
    return f"{require_whole(weights) / 1e6:.1f} MB, as exported"


CHECKS: dict[str, Callable[[Path], str]] = {
    "PNG, 8 bits": partial(_round_trip, ".png", 8, 0),
    "PNG, 16 bits": partial(_round_trip, ".png", 16, 0),
    "JPEG": partial(_round_trip, ".jpg", 8, 4),
    "WebP": partial(_round_trip, ".webp", 8, 4),
    "TIFF": partial(_round_trip, ".tiff", 8, 0),
    "EXR": _depth_exr,
    "EXR with layers": _layers_exr,
    "refine": partial(_refine, "classical"),
}
