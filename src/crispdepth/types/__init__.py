"""The values that travel between modules: frozen, NumPy, checked when they are built.

`photos` has those of one photo, `scenes` those of several posed ones.
"""

from crispdepth.types.photos import (
    BoolMap,
    Camera,
    Completion,
    DepthMap,
    Float32Map,
    Kind,
    LayerCompleter,
    LayerPair,
    MaskRole,
    MaskSet,
    RefinedDepth,
    Size,
    Unit,
    View,
)
from crispdepth.types.scenes import (
    Gaussians,
    Mesh,
    PointCloud,
    Scene,
    ViewDepth,
    scene_of_views,
)

__all__ = [
    "BoolMap",
    "Camera",
    "Completion",
    "DepthMap",
    "Float32Map",
    "Gaussians",
    "Kind",
    "LayerCompleter",
    "LayerPair",
    "MaskRole",
    "MaskSet",
    "Mesh",
    "PointCloud",
    "RefinedDepth",
    "Scene",
    "Size",
    "Unit",
    "View",
    "ViewDepth",
    "scene_of_views",
]
