"""crispdepth: rough depth and a sharp mask in, crisp layered depth out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crispdepth.api import estimate_depth as estimate_depth
    from crispdepth.api import refine as refine
    from crispdepth.types import Camera as Camera
    from crispdepth.types import DepthMap as DepthMap
    from crispdepth.types import MaskSet as MaskSet
    from crispdepth.types import RefinedDepth as RefinedDepth
    from crispdepth.types import View as View

__version__ = "0.1.0"

_HOME = {
    "estimate_depth": "crispdepth.api",
    "refine": "crispdepth.api",
    "Camera": "crispdepth.types",
    "DepthMap": "crispdepth.types",
    "MaskSet": "crispdepth.types",
    "RefinedDepth": "crispdepth.types",
    "View": "crispdepth.types",
}
__all__ = [
    "Camera",
    "DepthMap",
    "MaskSet",
    "RefinedDepth",
    "View",
    "__version__",
    "estimate_depth",
    "refine",
]


def __getattr__(name: str) -> Any:
    """Import a public name where it lives when it is first used: `--help` stays instant."""
    if name not in _HOME:
        raise AttributeError(f"module 'crispdepth' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
