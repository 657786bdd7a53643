"""A truncated signed distance field of any extent, fused from depth maps one at a time.

Distances are positive in front of surfaces, negative behind them, in units of the truncation and
within [-1, 1]. Voxel ``i`` has its centre at ``i * voxel_size``, in the frame of the world.

A pixel is not a number but a small plane: its inverse depth and the slope of it, which is exact
for planes seen at any angle (1 / z is affine in the pixel). The distance that is fused is the one
to that plane, Euclidean and not along the optical axis, so that views from different angles agree
about the same voxel.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from crispdepth.ops.blocks import EDGE, VOXELS, BlockStore, Field, pack, unpack
from crispdepth.types import Camera

COLOUR_STEPS = 128
"""Colours are kept as int16 in steps of 1/128 of a level: averages go on moving where bytes would
stall, at half the memory of floats. 0 means that there is no colour yet."""

_PIXELS = 1 << 15  # at once, likewise
_BATCH = 256  # blocks at once: what a step makes of 131,072 voxels stays in the cache


class _Planes(NamedTuple):
    """What the pixels of one view show; flat (h * w,) float32."""

    inverse: Tensor  # 1 / z at the centre, 0 where nothing was measured
    slope_x: Tensor  # per pixel
    slope_y: Tensor
    distance: Tensor  # from the camera's centre to the pixel's plane
    weight: Tensor


class TsdfVolume:
    """The field, block-sparse; memory does not depend on the number of views."""

    def __init__(
        self,
        voxel_size: float,
        truncation: float,
        *,
        device: torch.device,
        coloured: bool = True,
        max_memory: int | None = None,
        hull: Tensor | None = None,
    ) -> None:
        """An empty field.

        Args:
            voxel_size: in the unit of the scene.
            truncation: in the unit of the scene; 3 voxels are usual.
            device: where to compute.
            coloured: keep colours.
            max_memory: bytes for blocks; those beyond go to a temporary file and come back when
                they are seen again. None: all stay in memory.
            hull: keys of the blocks that the object lies in (`crispdepth.ops.hull.hull_blocks`),
                ascending. The field is then of these alone, whatever is seen elsewhere, and
                `close` makes a solid of it.

        Raises:
            ValueError: a length is not positive or the truncation is less than a voxel.
        """
        if not (0 < voxel_size <= truncation < math.inf):
            raise ValueError(
                f"0 < voxel size <= truncation is needed, got {voxel_size:g} and {truncation:g}."
            )
        self.voxel_size, self.truncation = float(voxel_size), float(truncation)
        fields = {"tsdf": Field(torch.float32), "weight": Field(torch.float32)}
        if coloured:
            fields["colour"] = Field(torch.int16, 3)
        if hull is not None:
            # The largest signed distance to a silhouette so far, in truncations, > 0 outside; 1
            # more, so that new voxels, which hold 0, are inside.
            fields["outside"] = Field(torch.float32)
        self.store = BlockStore(fields, device, max_memory)
        self.hulled = hull is not None
        for group in torch.split(hull, self.store.group) if hull is not None else ():
            self.store.slots(group)
        self.device, self.coloured = device, coloured
        steps = torch.arange(EDGE, device=device)
        self._voxels = torch.cartesian_prod(steps, steps, steps)  # (VOXELS, 3)

    def blocks_of(self, depth: Tensor, camera: Camera) -> Tensor:
        """Keys of the blocks with a voxel within the truncation of a valid depth, and few others.

        Args:
            depth: (h, w) z-depth, 0 where invalid.
            camera: of the map.
        """
        flat = depth.reshape(-1)
        found = [
            self._blocks_of_pixels(pixel, flat[pixel], camera)
            for pixel in torch.split(torch.nonzero(flat)[:, 0], _PIXELS)
        ]
        keys: Tensor = torch.unique(torch.cat(found))
        return keys

    def _blocks_of_pixels(self, pixel: Tensor, z: Tensor, camera: Camera) -> Tensor:
        """`blocks_of` for some pixels, row by row: neighbours mostly share their blocks."""
        width = camera.size[1]
        x = (pixel % width) + 0.5
        y = torch.div(pixel, width, rounding_mode="floor") + 0.5
        world_from_pixel, centre = _rays(camera)
        low, high = [], []
        for axis in range(3):
            a, b, c = (world_from_pixel[axis] / self.voxel_size).tolist()
            o = float(centre[axis] / self.voxel_size)
            ray = a * x + b * y + c
            pad = 0.5 * (abs(a) + abs(b)) * z  # half a pixel to every side
            near = ray * (z - self.truncation).clamp(min=0)
            far = ray * (z + self.truncation)
            low.append(_block(torch.minimum(near, far) - pad + o))
            high.append(_block(torch.maximum(near, far) + pad + o))
        first, last = pack(torch.stack(low, -1)), pack(torch.stack(high, -1))
        fresh = torch.ones_like(first, dtype=torch.bool)
        fresh[1:] = (first[1:] != first[:-1]) | (last[1:] != last[:-1])
        first, last = unpack(first[fresh]), unpack(last[fresh])
        if not len(first):
            return torch.empty(0, dtype=torch.int64, device=self.device)
        span = last - first
        spread = [torch.arange(n + 1, device=self.device) for n in span.amax(0).tolist()]
        found = []
        for step in torch.cartesian_prod(*spread):
            found.append(torch.unique(pack((first + step)[(step <= span).all(-1)])))
        keys: Tensor = torch.unique(torch.cat(found))
        return keys

    def integrate(
        self,
        depth: Tensor,
        weight: Tensor,
        colour: Tensor | None,
        camera: Camera,
        *,
        carve: Tensor | None = None,
        silhouette: Tensor | None = None,
    ) -> None:
        """Add what one view sees.

        In the blocks about its surfaces (`blocks_of`) a view also says that the space before them
        is empty. These blocks depend on the view alone, so the order of views does not matter (up
        to rounding), unless space is carved: that empties only what is there already.

        Args:
            depth: (h, w) float32 z-depth in the unit of the scene, 0 where invalid.
            weight: (h, w) float32 >= 0: how far to trust each pixel; 0 = no evidence at all.
            colour: (h, w, 3) uint8 sRGB; None only if the field has no colours.
            camera: of the maps.
            carve: (h, w) bool; the pixels that see through whatever is in front of their depth,
                or through everything where the depth is 0. None: nothing is carved.
            silhouette: (h, w) float32 signed distance of pixels to the object in pixels, > 0
                beside it; only of a field with a hull. None: the object is unknown.

        Raises:
            ValueError: sizes differ, or a part of the view lies too far from the origin.
        """
        size = (*camera.size,)
        if depth.shape != size or weight.shape != size:
            raise ValueError(
                f"The camera is for {size}, depth and weight are {tuple(depth.shape)} and "
                f"{tuple(weight.shape)}."
            )
        if self.coloured and (colour is None or colour.shape != (*size, 3)):
            raise ValueError(f"A coloured field needs colours of {(*size, 3)}.")
        depth = torch.where(weight > 0, depth, 0)
        planes = _planes(depth, weight, camera, self.truncation)
        if self.hulled:
            keys = self._in_sight(camera)
        else:
            keys = self.blocks_of(depth, camera)
            if carve is not None:
                keys = torch.unique(torch.cat([keys, self._in_sight(camera)]))
        image = None
        if self.coloured and colour is not None:
            image = (colour.reshape(-1, 3).float() * COLOUR_STEPS).clamp_(min=1)
        seen_through = None if carve is None else carve.reshape(-1)
        for group in torch.split(keys, self.store.group):
            slots = self.store.slots(group)
            for part, at in zip(
                torch.split(group, _BATCH), torch.split(slots, _BATCH), strict=True
            ):
                self._update(part, at, planes, image, camera, seen_through)
                if silhouette is not None:
                    self._confine(part, at, silhouette, camera)

    def close(self, trust: float) -> None:
        """Make a solid of what was seen: space that no view said anything about is inside where no
        silhouette excludes it, and nothing is outside of them.

        Args:
            trust: > 0; the hull counts as much as a view of this weight.
        """
        for keys in torch.split(self.store.keys, self.store.group):
            slots = self.store.slots(keys)
            for at in torch.split(slots, _BATCH):
                data = self.store.data
                hull = data["outside"][at] - 1
                before = data["weight"][at]
                both = (before * data["tsdf"][at] + trust * hull) / (before + trust)
                data["tsdf"][at] = torch.maximum(both, hull)
                data["weight"][at] = before + trust

    def values(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Field and hull at voxels (..., 3) int64, both (...): 1 = outside where no block is."""
        block = torch.div(places, EDGE, rounding_mode="floor")
        keys, row = torch.unique(pack(block.reshape(-1, 3)), return_inverse=True)
        tsdf, hull = (torch.ones(len(keys), VOXELS, device=self.device) for _ in range(2))
        there = self.store.contains(keys)
        stored = self.store.read(keys[there])
        tsdf[there], hull[there] = stored["tsdf"], stored["outside"] - 1
        at = (row, self._voxel(places - EDGE * block).reshape(-1))
        return tsdf[at].reshape(places.shape[:-1]), hull[at].reshape(places.shape[:-1])

    def lower(self, places: Tensor, amounts: Tensor) -> None:
        """Move the field inwards at voxels (n, 3) by the largest amount (n,) that is asked for
        there, but not beyond the hull.
        """
        block = torch.div(places, EDGE, rounding_mode="floor")
        keys, row = torch.unique(pack(block), return_inverse=True)
        moved = torch.zeros(len(keys), VOXELS, device=self.device)
        at = row * VOXELS + self._voxel(places - EDGE * block)
        moved.view(-1).scatter_reduce_(0, at, amounts, "amax")
        there = self.store.contains(keys)
        keys, moved = keys[there], moved[there]
        for group, part in zip(
            torch.split(keys, self.store.group), torch.split(moved, self.store.group), strict=True
        ):
            slots, data = self.store.slots(group), self.store.data
            hull = data["outside"][slots] - 1
            data["tsdf"][slots] = torch.maximum(data["tsdf"][slots] - part, hull).clamp(-1, 1)

    def _voxel(self, within: Tensor) -> Tensor:
        """Number in its block of a voxel (..., 3) from the corner of the block."""
        return (within[..., 0] * EDGE + within[..., 1]) * EDGE + within[..., 2]

    def _confine(self, keys: Tensor, slots: Tensor, silhouette: Tensor, camera: Camera) -> None:
        """Take the distance to one more silhouette into the hull."""
        height, width = camera.size
        x, y, z = self._project(keys, camera)
        ahead = z > 1e-6
        x /= z.clamp_(min=1e-6)
        y /= z
        inside = ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1)
        away = grid_sample(
            silhouette[None, None], grid[None], padding_mode="border", align_corners=False
        )[0, 0]
        focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
        away *= z / (focal * self.truncation)
        outside = self.store.data["outside"]
        rim = (silhouette[0], silhouette[-1], silhouette[:, 0], silhouette[:, -1])
        whole = min(float(edge.min()) for edge in rim) > 0  # nothing of it is beside the frame
        away = torch.where(inside, away.clamp_(-1, 1) + 1, 2.0 if whole else 0.0)
        outside[slots] = torch.maximum(outside[slots], away)

    def _update(
        self,
        keys: Tensor,
        slots: Tensor,
        planes: _Planes,
        image: Tensor | None,
        camera: Camera,
        seen_through: Tensor | None,
    ) -> None:
        height, width = camera.size
        x, y, z = self._project(keys, camera)
        z.clamp_(min=1e-6)  # behind the camera: lands outside the image or fails `ahead`
        ahead = z > 1e-6
        x /= z
        y /= z
        inside = ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = x.clamp_(0, width - 1e-3).floor(), y.clamp_(0, height - 1e-3).floor()
        pixel = (
            (row * width + column).long()
            if height * width < 2**24
            else (row.long() * width + column.long())
        )
        inverse = planes.inverse[pixel]
        measured = inverse > 0
        inverse += planes.slope_x[pixel] * (x - column - 0.5)
        inverse += planes.slope_y[pixel] * (y - row - 0.5)
        # 1 - z / surface: > 0 in front. Times the distance of the plane it is Euclidean.
        relative = 1 - z * inverse
        distance = planes.distance[pixel]
        reach = self.truncation * inverse
        seen = inside & measured & (relative >= -reach)
        value = torch.where(relative > reach, 1.0, relative * (distance / self.truncation))
        weight = planes.weight[pixel] * seen
        if seen_through is not None:
            empty = inside & ~measured & seen_through[pixel]
            value = torch.where(empty, 1.0, value)
            weight = torch.where(empty, 1.0, weight)
        data = self.store.data
        before = data["weight"][slots]
        after = before + weight
        share = weight / after.clamp(min=1e-12)
        tsdf = data["tsdf"][slots]
        data["tsdf"][slots] = torch.lerp(tsdf, value.clamp_(-1, 1), share)
        data["weight"][slots] = after
        if image is not None:
            # Emptiness has no colour, so only the band is looked at.
            band = torch.nonzero((seen & (relative <= reach)).reshape(-1))[:, 0]
            colours = data["colour"][slots]
            flat = colours.reshape(-1, 3)
            old = flat[band].float()
            ratio = share.reshape(-1)[band]
            ratio[old[:, 0] == 0] = 1  # the first colour of the voxel
            flat[band] = old.lerp_(image[pixel.reshape(-1)[band]], ratio[:, None]).round_().short()
            data["colour"][slots] = colours

    def _project(self, keys: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """Homogeneous pixels (n, VOXELS) of the voxels of blocks."""
        pixel_from_world = torch.from_numpy(camera.K @ camera.cam_from_world[:3]).to(self.device)
        corner = unpack(keys).double() * (EDGE * self.voxel_size)
        corners = corner @ pixel_from_world[:, :3].T + pixel_from_world[:, 3]
        steps = (self._voxels.double() * self.voxel_size) @ pixel_from_world[:, :3].T
        corners, steps = corners.float(), steps.float()
        x, y, z = (corners[:, axis, None] + steps[None, :, axis] for axis in range(3))
        return x, y, z

    def _in_sight(self, camera: Camera) -> Tensor:
        """Keys of the existing blocks that a camera may see, whatever stands before them."""
        keys = self.store.keys
        side = EDGE * self.voxel_size
        centre = (unpack(keys).double() + 0.5) * side
        pose = torch.from_numpy(np.array(camera.cam_from_world)).to(self.device)
        points = centre @ pose[:3, :3].T + pose[:3, 3]
        radius = side  # more than half the diagonal
        height, width = camera.size
        near = points[:, 2] > -radius
        K = torch.from_numpy(np.array(camera.K)).to(self.device)
        pixels = points @ K.T
        for axis, end in ((0, width), (1, height)):
            reach = radius * float(K[axis].norm())
            near &= pixels[:, axis] > -reach
            near &= pixels[:, axis] < pixels[:, 2] * end + reach + radius * end
        return keys[near]


def _rays(camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) from homogeneous pixels to directions with z-depth 1 in the world; the centre."""
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    inverse = np.linalg.inv(rotation)
    return inverse @ np.linalg.inv(camera.K), -inverse @ translation


def _block(position: Tensor) -> Tensor:
    """The block in which the voxel at or before a position lies; positions in voxels."""
    return torch.div(position, EDGE).floor_().long()


def _planes(depth: Tensor, weight: Tensor, camera: Camera, truncation: float) -> _Planes:
    valid = depth > 0
    inverse = torch.where(valid, 1 / torch.where(valid, depth, 1), 0)
    # From pixel to pixel a surface moves by less than the truncation; what moves more is an edge.
    steepest = truncation * inverse.square()
    slope_x, slope_y = (_slope(inverse, valid, steepest, axis) for axis in (1, 0))
    height, width = depth.shape
    # The plane is A X + B Y + C Z = 1 with (A, B, C) K^-1 = (slope_x, slope_y, rest).
    x = torch.arange(width, device=depth.device) + 0.5
    y = torch.arange(height, device=depth.device)[:, None] + 0.5
    rest = inverse - slope_x * x - slope_y * y
    K = camera.K
    normal = [
        sum(part * float(K[i, j]) for i, part in enumerate((slope_x, slope_y, rest)))
        for j in range(3)
    ]
    length = torch.stack([n.square() for n in normal]).sum(0).sqrt_()  # type: ignore[union-attr]
    distance = torch.where(valid, 1 / length.clamp(min=1e-12), 0)
    parts = (inverse, slope_x, slope_y, distance, weight)
    return _Planes(*(part.reshape(-1).contiguous() for part in parts))


def _slope(inverse: Tensor, valid: Tensor, steepest: Tensor, axis: int) -> Tensor:
    """Change of 1 / z per pixel: the smaller of both sides, 0 where both are edges or unknown.

    The smaller one, because at a depth edge the other one is the edge.
    """
    length = inverse.shape[axis]
    change = inverse.diff(dim=axis)
    both = valid.narrow(axis, 1, length - 1) & valid.narrow(axis, 0, length - 1)
    change = torch.where(both, change, torch.inf)
    edge = torch.full_like(inverse.narrow(axis, 0, 1), torch.inf)
    after, before = torch.cat([change, edge], axis), torch.cat([edge, change], axis)
    slope = torch.where(after.abs() < before.abs(), after, before)
    return torch.where((slope.abs() <= steepest) & valid, slope, 0)
