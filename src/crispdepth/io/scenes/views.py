"""Reading one view of a scene: photo, masks and depth from disk, brought to its pinhole camera."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.align import depth_by_points
from crispdepth.io.depths import read_depth
from crispdepth.io.images import Photo, read_image
from crispdepth.io.masks import masks_from_alpha, read_masks
from crispdepth.io.naming import White
from crispdepth.io.scenes.lens import Lens, distort, pixel_rays, sampling_grid
from crispdepth.io.scenes.source import DepthFile
from crispdepth.io.view_depths import confirmed
from crispdepth.ops.masks import resize_masks
from crispdepth.ops.resample import same_aspect, shrink
from crispdepth.types import (
    BoolMap,
    Camera,
    DepthMap,
    Float32Map,
    MaskRole,
    MaskSet,
    PointCloud,
    Size,
    Unit,
    View,
)


@dataclass(frozen=True, eq=False)
class ViewFiles:
    """What one view is read from."""

    name: str
    photo: Path
    lens: Lens  # its size is the photo's
    undistorted: Camera  # of the photo without distortion, at its own resolution
    camera: Camera  # of the view
    masks: tuple[Path, ...] = ()
    white: White = "keep"
    alpha_is_mask: bool = False
    depth: DepthFile | None = None


@dataclass(frozen=True)
class ReadView:
    """Reads the views of a scene by number."""

    files: tuple[ViewFiles, ...]
    role: MaskRole
    invert: bool
    unit: Unit = "m"
    points: PointCloud | None = None  # to which relative depth is aligned

    def __call__(self, index: int) -> View:
        """View ``index``, read now.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is damaged, or does not fit the photo.
        """
        files = self.files[index]
        photo = read_image(files.photo)
        height, width = photo.rgb.shape[:2]
        if (height, width) != files.lens.size:
            raise ValueError(f"{files.photo} is {(height, width)} now, it was {files.lens.size}.")
        masks = self._masks(files, photo)
        image, alpha, lens = photo.rgb, photo.alpha, files.lens
        if not lens.is_pinhole:
            grid = _grid(lens, files.undistorted.K.tobytes(), files.undistorted.size)
            image = _remap(image, grid)
            alpha = None if alpha is None else _remap(alpha, grid)
            if masks is not None:
                values = [_remap(mask, grid) for mask in masks.values]
                stack = (
                    np.stack(values)
                    if values
                    else masks.values[:, : grid.shape[0], : grid.shape[1]]
                )
                masks = replace(masks, values=stack)
        image = _shrink(image, alpha, files.camera.size)
        if masks is not None:
            masks = resize_masks(masks, files.camera.size)
        depth = None if files.depth is None else self._depth(files.depth, files)
        return View(image, files.name, files.camera, depth, masks)

    def _depth(self, file: DepthFile, files: ViewFiles) -> DepthMap:
        """The depth of the view, in the unit of the scene."""
        depth = _looked_up(file, files)
        if file.scale is not None or (depth.kind == "depth" and depth.unit == self.unit):
            return depth
        if self.points is None:
            raise ValueError(
                f"{file.path} holds {depth.kind.replace('_', ' ')}, {depth.unit}, and the scene "
                f"has no sparse points to align it to (unit {self.unit}); give depth in that unit, "
                "or a scene with points, such as COLMAP's."
            )
        try:
            rng = np.random.default_rng(0)
            return depth_by_points(depth, self.points.points, self.unit, rng)
        except ValueError as error:
            raise ValueError(f"{file.path}, aligned to the sparse points: {error}") from error

    def _masks(self, files: ViewFiles, photo: Photo) -> MaskSet | None:
        """The masks at the size of the photo as it is stored; None where there is none."""
        size = photo.rgb.shape[0], photo.rgb.shape[1]
        if files.masks:
            found = read_masks(
                files.masks, role=self.role, white=files.white, invert=self.invert
            ).masks
            stem = files.masks[0].stem
            label = stem.removeprefix(f"{files.photo.stem}.")
            if len(files.masks) == len(found) == 1 and label != stem:
                # Where a photo shows one of several objects, it has the name it has elsewhere.
                found = MaskSet(found.values, (label,), found.role)
            try:
                return resize_masks(found, size)
            except ValueError as error:
                raise ValueError(f"{files.masks[0]}: {error}") from error
        alpha = photo.alpha
        if not files.alpha_is_mask or alpha is None or alpha.min() == 1:
            return None  # opaque everywhere says nothing of an object
        if alpha.max() == 0:  # the object is out of the picture
            outside = np.full((1, *size), 255 if self.role == "ignore" else 0, np.uint8)
            return MaskSet(outside, ("alpha",), self.role)
        return masks_from_alpha(alpha, self.role)


@lru_cache(maxsize=1)  # photos of one camera come one after the other
def _grid(lens: Lens, K: bytes, size: Size) -> NDArray[np.float32]:
    """`sampling_grid` as OpenCV counts: the centre of the top-left pixel at (0, 0)."""
    return sampling_grid(lens, np.frombuffer(K).reshape(3, 3), size) - np.float32(0.5)


def _remap(image: NDArray[Any], grid: NDArray[np.float32]) -> Any:
    """The image at the grid's places, bilinear; the grid lies within it."""
    x, y = cv2.split(grid)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shrink(image: NDArray[Any], alpha: Float32Map | None, size: Size) -> Any:
    """The photo at ``size`` by area average; what is transparent lends no colour."""
    small = shrink(image, size)
    if alpha is None or small is image:
        return small
    share = shrink(alpha, size)
    colour = shrink(image * alpha[..., None], size)
    mixed = np.divide(
        colour, share[..., None], out=small.astype(np.float32), where=share[..., None] > 0
    )
    return np.rint(mixed).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def _looked_up(file: DepthFile, files: ViewFiles) -> DepthMap:
    """What the source holds nearest to each pixel of the view."""
    if file.scale is not None:
        stored = read_depth(file.path, kind="depth", unit="m", scale=file.scale).depth
    else:
        stored = confirmed(file.path, read_depth(file.path).depth)
        photo = files.lens.size
        if photo is not None and not same_aspect(stored.size, photo):
            raise ValueError(
                f"{file.path} is {stored.size[1]}x{stored.size[0]}, another aspect ratio than its "
                f"photo, {photo[1]}x{photo[0]}."
            )
    camera, (height, width) = files.camera, stored.size
    lens = (file.lens or files.lens).resized(stored.size)
    rays = pixel_rays(camera.K, camera.size)
    x, y = distort(lens, rays[..., 0], rays[..., 1])
    column = np.floor(lens.fx * x + lens.skew * y + lens.cx).astype(np.int32)
    row = np.floor(lens.fy * y + lens.cy).astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # A pixel of the view covers so many of the depth map: any valid one of them will do.
    reach = 0.5 * max(lens.fx / camera.K[0, 0], lens.fy / camera.K[1, 1])
    values, valid = _spread(stored, reach) if reach > 1 else (stored.values, stored.usable)
    row, column = row.clip(0, height - 1), column.clip(0, width - 1)
    usable = valid[row, column] & inside
    return DepthMap(values[row, column], stored.kind, stored.unit, usable, camera)


def _spread(depth: DepthMap, reach: float) -> tuple[Float32Map, BoolMap]:
    """Values and validity; a hole no more than ``reach`` pixels from a value holds that value."""
    if depth.usable.all() or not depth.usable.any():
        return depth.values, depth.usable
    distance, labels = cv2.distanceTransformWithLabels(
        (~depth.usable).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.float32)
    nearest[labels[depth.usable]] = depth.values[depth.usable]
    filled = distance <= reach
    return np.where(filled, nearest[labels], np.float32(0)), filled
