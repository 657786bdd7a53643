"""crispdepth: rough depth and sharp masks in, crisp layered depth, meshes and Gaussians out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crispdepth.api import estimate_depth as estimate_depth
    from crispdepth.api import refine as refine
    from crispdepth.api.reconstruction import Reconstruction as Reconstruction
    from crispdepth.api.scene import reconstruct as reconstruct
    from crispdepth.io.scenes import read_scene as read_scene
    from crispdepth.types import Camera as Camera
    from crispdepth.types import DepthMap as DepthMap
    from crispdepth.types import MaskSet as MaskSet
    from crispdepth.types import RefinedDepth as RefinedDepth
    from crispdepth.types import Scene as Scene
    from crispdepth.types import View as View

__version__ = "0.1.0"

_HOME = {
    "estimate_depth": "crispdepth.api",
    "read_scene": "crispdepth.io.scenes",
    "reconstruct": "crispdepth.api.scene",
    "refine": "crispdepth.api",
    "Camera": "crispdepth.types",
    "DepthMap": "crispdepth.types",
    "MaskSet": "crispdepth.types",
    "Reconstruction": "crispdepth.api.reconstruction",
    "RefinedDepth": "crispdepth.types",
    "Scene": "crispdepth.types",
    "View": "crispdepth.types",
}
__all__ = [
    "Camera",
    "DepthMap",
    "MaskSet",
    "Reconstruction",
    "RefinedDepth",
    "Scene",
    "View",
    "__version__",
    "estimate_depth",
    "read_scene",
    "reconstruct",
    "refine",
]


def __getattr__(name: str) -> Any:
    """Import a public name where it lives when it is first used: `--help` stays instant."""
    if name not in _HOME:
        raise AttributeError(f"module 'crispdepth' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
