"""Novel views: the photo from a little to the side, with what the objects hid.

A layered depth image: every layer of a refined photo is warped on its own, and they are laid over
each other with a depth test. What an object uncovers is filled by the layer behind it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.backproject import Placement
from crispdepth.ops.colour import srgb_from_linear
from crispdepth.ops.forward_warp import forward_warp
from crispdepth.ops.peel import Layer
from crispdepth.types import Camera, Float32Map

Path = Literal["circle", "dolly", "zoom"]
"""``circle``: around the point of view. ``dolly``: forward and back. ``zoom``: the same while the
lens widens, so that what is in focus keeps its size (a dolly zoom)."""

_DEPTH_TOLERANCE = 0.02
"""Share of its inverse depth by which a layer may lie behind another one and still be seen: where
surfaces meet, resampling decides nothing."""


def placed_layers(layers: Sequence[Layer], placement: Placement) -> tuple[Layer, ...]:
    """The layers of `crispdepth.ops.peel.peel` with 1 / z, none before the layers that hide it.

    Refinement may complete a surface so that it comes out before what hides it; seen from the
    side it would cut through.
    """
    placed: list[Layer] = []
    nearest: Float32Map | None = None  # of the nearer layers, infinite where there are none
    for layer in reversed(layers):
        inverse = placement.apply(layer.inverse_depth)
        if nearest is None:
            nearest = np.full(inverse.shape, np.inf, np.float32)
        inverse = np.minimum(inverse, nearest)
        placed.append(layer._replace(inverse_depth=inverse))
        nearest = np.where(layer.alpha > 0, inverse, nearest)
    return tuple(reversed(placed))


def render_view(layers: Sequence[Layer], source: Camera, target: Camera) -> NDArray[np.uint8]:
    """The layers as ``target`` sees them, (h', w', 3) uint8 in sRGB.

    From ``source`` itself this is the photo. What no layer shows repeats the photo's border.

    Args:
        layers: from the farthest, opaque, to the nearest; inverse depth is 1 / z > 0.
        source: the camera of the photo.
        target: any camera of the same scene, not far from it.
    """
    far, *nearer = layers
    out, inverse = forward_warp(far.colour, far.inverse_depth, source, target)
    for layer in nearer:
        sheet = np.concatenate([layer.colour, layer.alpha[..., None]], axis=-1)
        warped, depth = forward_warp(sheet, layer.inverse_depth, source, target)
        behind = (inverse / depth - 1) / np.float32(_DEPTH_TOLERANCE)
        warped *= (2 - behind).clip(0, 1)[..., None]
        colour, alpha = warped[..., :3], warped[..., 3]
        out = colour + (1 - alpha[..., None]) * out
        inverse = np.where(alpha > 0.5, depth, inverse)
    return srgb_from_linear(out)


def moved_camera(
    source: Camera, right: float, down: float, forward: float, focus: float, *, hold: bool = False
) -> Camera:
    """The camera moved along its own axes, in the unit of its depth, without turning.

    The frame shifts with it so that what lies at the inverse depth ``focus`` stays in its place;
    with ``hold`` the focal length changes so that it keeps its size, too.
    """
    step = np.eye(4)
    step[:3, 3] = -right, -down, -forward
    K = source.K.copy()
    scale = 1 - forward * focus if hold else 1.0
    K[:2, :2] *= scale
    K[:2, 2] += K[:2, :2] @ (right, down) * focus / (1 - forward * focus)
    return replace(source, K=K, cam_from_world=step @ source.cam_from_world)


def camera_path(
    source: Camera, path: Path, count: int, amount: float, placement: Placement, focus: float
) -> tuple[Camera, ...]:
    """The cameras of a clip that begins again where it ends.

    All are zoomed in alike, as little as is needed to keep the photo's border out of the frame.

    Args:
        source: the camera of the photo.
        path: see `Path`.
        count: how many cameras.
        amount: how far the nearest surface moves against the farthest, at most, as a share of the
            longer side.
        placement: of the scene in space; its near and far count.
        focus: 1 / z of what stays in its place.

    Raises:
        ValueError: the amount or the count is out of range.
    """
    if count < 2 or not 0 < amount <= 0.2:
        raise ValueError(
            f"A path has at least 2 cameras and an amount above 0, up to 0.2; "
            f"got {count} and {amount:g}."
        )
    phase = 2 * np.pi * np.arange(count) / count
    focal = float(np.sqrt(source.K[0, 0] * source.K[1, 1]))
    span = 1 / placement.near - 1 / placement.far
    reach = amount * max(source.size) / (focal * max(span, 1e-6 / placement.near))
    if path == "circle":
        steps = [(reach / 2 * np.sin(p), reach / 2 * np.cos(p), 0.0) for p in phase]
    else:
        # A point at the border moves by half a side times forward / z.
        forward = min(2 * amount / span, placement.near / 2)
        steps = [(0.0, 0.0, forward * (1 - np.cos(p)) / 2) for p in phase]
    cameras = [moved_camera(source, *step, focus, hold=path == "zoom") for step in steps]
    zoom = max(_overscan(source, camera, placement) for camera in cameras)
    return tuple(_zoomed(camera, zoom) for camera in cameras)


def _overscan(source: Camera, target: Camera, placement: Placement) -> float:
    """How much to enlarge ``target``, which is not turned, so that it sees only the photo."""
    shift = (target.cam_from_world @ np.linalg.inv(source.cam_from_world))[:3, 3]
    half = np.array(target.size[::-1]) / 2
    zoom = 1.0
    for corner in ((0, 0), source.size[::-1]):
        ray = np.linalg.inv(source.K) @ (*corner, 1)
        for distance in (placement.near, placement.far):
            x, y, stretch = target.K @ (ray + shift / distance)
            zoom = max(zoom, *(half / np.abs(np.array([x, y]) / stretch - half)))
    return zoom


def _zoomed(camera: Camera, zoom: float) -> Camera:
    """The camera with its picture enlarged about the centre of the frame."""
    height, width = camera.size
    enlarge = np.array([[zoom, 0, (1 - zoom) * width / 2], [0, zoom, (1 - zoom) * height / 2]])
    return replace(camera, K=np.vstack([enlarge, [0, 0, 1]]) @ camera.K)
