"""A truncated signed distance field of any extent, fused from depth maps one at a time.

Distances are positive in front of surfaces, negative behind them, in units of the truncation and
within [-1, 1]. Voxel ``i`` has its centre at ``i * voxel_size``, in the frame of the world.

A pixel is not a number but a small plane: its inverse depth and the slope of it, which is exact
for planes seen at any angle (1 / z is affine in the pixel). The distance that is fused is the one
to that plane, Euclidean and not along the optical axis, so that views from different angles agree
about the same voxel.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from crispdepth.ops.band_blocks import band_blocks
from crispdepth.ops.blocks import EDGE, VOXELS, BlockStore, Field, pack, unpack
from crispdepth.ops.pixel_planes import PixelPlanes, centred, pixel_planes
from crispdepth.types import Camera

COLOUR_STEPS = 128
"""Colours are kept as int16 in steps of 1/128 of a level: averages go on moving where bytes would
stall, at half the memory of floats. 0 means that there is no colour yet."""

_CACHED = 1 << 17  # voxels at once: what a step makes of them stays in the cache
_MANY = 1 << 22  # where launching a step is what takes time
_LISTED = 1 << 14  # blocks of which only the place is looked at
_FAR = 1e18  # more than any depth


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
        self._batch = (_CACHED if device.type == "cpu" else _MANY) // VOXELS  # blocks at once
        steps = torch.arange(EDGE, device=device)
        self._voxels = torch.cartesian_prod(steps, steps, steps)  # (VOXELS, 3)

    def blocks_of(self, depth: Tensor, camera: Camera) -> Tensor:
        """Keys of the blocks with a voxel near a valid depth, (n,) ascending.

        That is along the optical axis at most the truncation behind it, or half as much again
        before it: a voxel beside an edge that has to be seen as empty, or there would be a hole,
        lies before a slanted surface farther along the axis than from the surface.

        Args:
            depth: (h, w) z-depth, 0 where invalid.
            camera: of the map.
        """
        flat = depth.new_full((depth.shape[0] + 2, depth.shape[1] + 2), -_FAR)  # where unknown
        flat[1:-1, 1:-1] = depth.masked_fill(depth == 0, -_FAR)
        flat = flat.reshape(-1)
        before, behind = 1.5 * self.truncation, self.truncation
        keys = band_blocks(depth, camera, self.voxel_size, before, behind)
        touched = []
        for part in torch.split(keys, self._batch) if len(keys) else ():
            x, y, z = self._project(part, camera)
            away = flat.index_select(0, _pixels(x, y, z, camera)).sub_(z)
            away = away.sub_((before - behind) / 2).abs_().reshape(-1, VOXELS).amin(1)
            touched.append(part[away <= (before + behind) / 2])
        return torch.cat([keys[:0], *touched])

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
        depth = depth * weight.sign()
        if self.hulled:
            keys = self._in_sight(camera)
        else:
            keys = self.blocks_of(depth, camera)
            if carve is not None:
                keys = torch.unique(torch.cat([keys, self._in_sight(camera)]))
        planes = pixel_planes(depth, weight, camera, self.truncation, carve)
        image = None
        if self.coloured and colour is not None:
            image = torch.nn.functional.pad(colour, (0, 0, 1, 1, 1, 1)).reshape(-1)
        batch = self._batch
        for group in torch.split(keys, self.store.group) if len(keys) else ():
            slots = self.store.slots(group)
            for part, at in zip(torch.split(group, batch), torch.split(slots, batch), strict=True):
                self._update(part, at, planes, image, camera)
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
            for at in torch.split(slots, self._batch):
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
        x, y, z = (part.view(-1, VOXELS) for part in self._project(keys, camera))
        ahead = z > 1e-6
        x = x.div_(z.clamp_(min=1e-6)).add_(float(camera.K[0, 2]))
        y = y.div_(z).add_(float(camera.K[1, 2]))
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
        self, keys: Tensor, slots: Tensor, planes: PixelPlanes, image: Tensor | None, camera: Camera
    ) -> None:
        x, y, z = self._project(keys, camera)
        pixel = _pixels(x, y, z, camera)
        # Positive in front of the surface, in units of the truncation and Euclidean.
        distance = planes.distance.index_select(0, pixel)
        ratio = planes.along[0].index_select(0, pixel).mul_(x)
        for part, place in zip(planes.along[1:], (y, z), strict=True):
            ratio.addcmul_(part.index_select(0, pixel), place)
        value = distance - ratio
        # The band ends a truncation before and behind the surface, along the optical axis:
        # ratio / distance is z / surface. In place, comparisons give 1 and 0.
        distance *= z
        before = (distance - ratio * (z + self.truncation)).gt_(0)
        seen = distance.addcmul_(ratio, z.sub_(self.truncation), value=-1).ge_(0)
        value.add_(before, alpha=2).clamp_(-1, 1)
        weight = planes.weight.index_select(0, pixel).mul_(seen)
        data = self.store.data
        after = data["weight"].index_select(0, slots).reshape(-1).add_(weight)
        share = weight.div_(after.clamp(min=1e-12))
        tsdf = data["tsdf"].index_select(0, slots).reshape(-1).lerp_(value, share)
        data["tsdf"].index_copy_(0, slots, tsdf.reshape(-1, VOXELS))
        data["weight"].index_copy_(0, slots, after.reshape(-1, VOXELS))
        if image is not None:
            # Emptiness has no colour, so only the band is looked at.
            band = torch.nonzero(share.mul_(1 - before))[:, 0]
            source = pixel.index_select(0, band).mul_(3)
            share = share.index_select(0, band)
            block = torch.div(band, VOXELS, rounding_mode="floor")
            start = (slots - torch.arange(len(slots), device=slots.device)) * VOXELS
            voxel = band.add_(start.index_select(0, block)).mul_(3)
            colours = data["colour"].view(-1)
            first = colours.index_select(0, voxel) == 0  # the first colour of the voxel
            share = torch.maximum(share, first)
            for _ in range(3):  # one by one: rows of three are several times slower
                old = colours.index_select(0, voxel).float()
                new = image.index_select(0, source).float().mul_(COLOUR_STEPS).clamp_(min=1)
                colours.index_copy_(0, voxel, old.lerp_(new, share).round_().short())
                voxel, source = voxel.add_(1), source.add_(1)

    def _project(self, keys: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """p of `PixelPlanes` for the voxels of blocks, (n * VOXELS,) each."""
        pixel_from_world = torch.from_numpy(centred(camera)).to(self.device)
        corner = unpack(keys).double() * (EDGE * self.voxel_size)
        corners = (corner @ pixel_from_world[:, :3].T + pixel_from_world[:, 3]).float()
        steps = self._voxels.double() * self.voxel_size
        steps = (steps @ pixel_from_world[:, :3].T).float().T.contiguous()
        x, y, z = ((corners[:, axis, None] + steps[axis]).reshape(-1) for axis in range(3))
        return x, y, z

    def _in_sight(self, camera: Camera) -> Tensor:
        """Keys of the existing blocks that a camera may see, whatever stands before them."""
        side = EDGE * self.voxel_size
        radius = side  # more than half the diagonal
        pose = torch.from_numpy(np.array(camera.cam_from_world)).to(self.device)
        K = torch.from_numpy(np.array(camera.K)).to(self.device)
        ends = [
            (axis, end, radius * float(K[axis].norm()))
            for axis, end in enumerate(camera.size[::-1])
        ]
        found = []
        for keys in torch.split(self.store.keys, _LISTED):
            centre = (unpack(keys).double() + 0.5) * side
            points = centre @ pose[:3, :3].T + pose[:3, 3]
            near = points[:, 2] > -radius
            pixels = points @ K.T
            for axis, end, reach in ends:
                near &= pixels[:, axis] > -reach
                near &= pixels[:, axis] < pixels[:, 2] * end + reach + radius * end
            found.append(keys[near])
        return torch.cat(found)


def _pixels(x: Tensor, y: Tensor, z: Tensor, camera: Camera) -> Tensor:
    """Where p falls in the flat maps of `PixelPlanes`, int32; in the frame, if not in the image."""
    height, width = camera.size
    scale = z.clamp(min=1e-6).reciprocal_()
    column = (x * scale).add_(float(camera.K[0, 2])).floor_().clamp_(-1, width)
    row = scale.mul_(y).add_(float(camera.K[1, 2])).floor_().clamp_(-1, height)
    if float(z.min()) <= 1e-6:
        column.masked_fill_(z <= 1e-6, -1)  # behind the camera
    return row.int().add_(1).mul_(width + 2).add_(column.int()).add_(1)
