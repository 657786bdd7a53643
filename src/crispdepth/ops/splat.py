"""Gaussians to pixels, differentiable, on any device: sorted by depth, composited tile by tile.

What a pixel shows is ``sum_k f_k a_k prod_{j<k} (1 - a_j)``, front to back, with
``a = opacity * exp(-d^T conic d / 2)``. The pairs of tiles and Gaussians are composited in rounds:
each takes the next few Gaussians of all tiles that are not yet opaque, a block of tiles small
enough for the cache at a time. Nothing of a pair is kept for the backward pass, which goes through
the same rounds again: memory is that of the list of pairs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crispdepth.ops.splat_projection import BLUR_PX2, Ellipses, project, sh_colours

FAINTEST = 1 / 255
"""Opacity in a pixel below which a Gaussian is not counted there."""

MOST_OPAQUE = 0.999
"""Opacity that no Gaussian exceeds, so that what is behind it has a gradient."""

_OPAQUE = 1e-4  # transmittance at which what is behind a tile no longer counts
_TILE = 8  # side of a tile, pixels
_DEEP = 16  # Gaussians of a tile in one round
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}  # pairs of pixels and Gaussians at a time


class Splats(NamedTuple):
    """Gaussians as tensors, all of one type and on one device."""

    means: Tensor  # (n, 3), world
    scales: Tensor  # (n, 3), standard deviations
    quaternions: Tensor  # (n, 4), w x y z
    opacities: Tensor  # (n,) in [0, 1]
    sh: Tensor  # (n, (degree + 1)^2, 3), of sRGB - 0.5
    labels: Tensor | None = None  # (n,), the number of each one's object


class Rendered(NamedTuple):
    """What a camera sees of Gaussians; background is nowhere in it."""

    colour: Tensor  # (h, w, 3), sRGB, premultiplied: over a background add (1 - alpha) * it
    alpha: Tensor  # (h, w) in [0, 1]
    depth: Tensor  # (h, w), expected z of what is seen; 0 where nothing is
    objects: Tensor  # (k, h, w): the share of alpha of each object; they add up to it
    means: Tensor  # (n, 2), pixels: its gradient is that of the places in the image


def render(
    splats: Splats,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    *,
    objects: int = 0,
    near: float = 0.01,
) -> Rendered:
    """Gaussians seen by a camera, differentiable in all of their values.

    Opacities of objects are in the share form (spec 2.12): the weight with which a Gaussian is
    seen counts for its object, so an object behind an opaque one has none there, and all objects
    add up to alpha.

    Args:
        splats: n Gaussians; without labels no object is told apart.
        K: (3, 3), pixels, the centre of the top-left one at (0.5, 0.5).
        cam_from_world: (4, 4).
        size: (height, width).
        objects: how many there are; the labels are below it.
        near: nearest z that is seen, in the unit of the world.
    """
    splats = splats._replace(opacities=splats.opacities.clamp(0, MOST_OPAQUE))
    means = splats.means
    rotation, translation = cam_from_world[:3, :3], cam_from_world[:3, 3]
    away = torch.nn.functional.normalize(means + rotation.T @ translation, dim=-1)
    z = means @ rotation[2] + translation[2]
    features = [sh_colours(splats.sh, away), z[:, None]]
    if splats.labels is not None and objects:
        shares = torch.nn.functional.one_hot(splats.labels.long(), objects)
        features.append(shares.to(means.dtype))
    way = _by_gsplat if _has_backend(means, K) else _by_tiles
    image, alpha, places = way(splats, torch.cat(features, dim=1), K, cam_from_world, size, near)
    colour, depth, shares = image[:3], image[3:4], image[4:]
    seen = alpha > FAINTEST
    depth = torch.where(seen, depth[0] / torch.where(seen, alpha, 1.0), 0.0)
    return Rendered(colour.permute(1, 2, 0), alpha, depth, shares, places)


Composited = tuple[Tensor, Tensor, Tensor]
"""Features (c, h, w), alpha (h, w), and where the means are in the image (n, 2), pixels."""


def _by_tiles(
    splats: Splats,
    features: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    near: float,
) -> Composited:
    ellipses = project(
        splats.means, splats.scales, splats.quaternions, splats.opacities, K, cam_from_world, size,
        near=near, faintest=FAINTEST,
    )  # fmt: skip
    return *composite(ellipses, splats.opacities, features, size), ellipses.means


def _by_gsplat(
    splats: Splats,
    features: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    near: float,
) -> Composited:
    """The same by gsplat, whose kernels for CUDA are much faster."""
    from gsplat import rasterization

    image, alpha, more = rasterization(
        splats.means, splats.quaternions, splats.scales, splats.opacities, features,
        cam_from_world[None], K[None], width=size[1], height=size[0],
        near_plane=near, eps2d=BLUR_PX2, packed=False,
    )  # fmt: skip
    return image[0].permute(2, 0, 1), alpha[0, ..., 0], more["means2d"][0]


def _has_backend(means: Tensor, K: Tensor) -> bool:
    """Whether gsplat can do it: it has no skew, and without CUDA not even its import is safe."""
    if not (means.is_cuda and means.dtype == torch.float32 and K[0, 1] == 0):
        return False
    from importlib.util import find_spec

    return find_spec("gsplat") is not None


def composite(
    ellipses: Ellipses, opacities: Tensor, features: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Features (c, h, w) and alpha (h, w) of ellipses laid over each other, nearest first.

    Args:
        ellipses: of n Gaussians.
        opacities: (n,) in [0, `MOST_OPAQUE`].
        features: (n, c): anything that is blended as colours are.
        size: (height, width).
    """
    pairs = _pairs(ellipses, size)
    flat, through = _Composite.apply(  # type: ignore[no-untyped-call]
        ellipses.means, ellipses.conics, opacities, features, pairs
    )  # (tiles, c, pixels), (tiles, pixels)
    rows, columns = pairs.tiles
    (height, width), channels = size, features.shape[1]
    image = flat.reshape(rows, columns, channels, _TILE, _TILE).permute(2, 0, 3, 1, 4)
    image = image.reshape(channels, rows * _TILE, columns * _TILE)[:, :height, :width]
    seen_through = through.reshape(rows, columns, _TILE, _TILE).transpose(1, 2)
    seen_through = seen_through.reshape(rows * _TILE, columns * _TILE)[:height, :width]
    return image, 1 - seen_through


class _Pairs(NamedTuple):
    """Which Gaussians lie over which tiles, nearest first."""

    tiles: tuple[int, int]  # (rows, columns)
    gaussians: Tensor  # (pairs,): the number of the Gaussian
    first: Tensor  # (tiles,): where the pairs of a tile begin
    counts: Tensor  # (tiles,)


class _Block(NamedTuple):
    """Some tiles with their next few Gaussians."""

    tiles: Tensor  # (t,)
    origins: Tensor  # (t, 1, 2): the tiles' top left corners, pixels
    gaussians: Tensor  # (t, g); n where there is none: an extra row of nothing


@torch.no_grad()
def _pairs(ellipses: Ellipses, size: tuple[int, int]) -> _Pairs:
    height, width = size
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    limit = ellipses.means.new_tensor([columns, rows])
    # A pixel counts at its centre, half a pixel inside of its tile.
    low = (ellipses.means - ellipses.reach - 0.5) / _TILE
    high = (ellipses.means + ellipses.reach + 0.5) / _TILE
    first = torch.minimum(low.ceil().sub(1).clamp_min(0), limit).long()
    last = torch.minimum(high.floor().add(1).clamp_min(0), limit).long()
    extent = (last - first).clamp_min(0) * (ellipses.reach > 0)
    nearest = torch.argsort(ellipses.depths, stable=True)
    first, extent = first[nearest], extent[nearest]
    area = extent.prod(dim=1)
    of = torch.repeat_interleave(area)
    within = torch.arange(len(of), device=of.device) - (area.cumsum(0) - area)[of]
    across = extent[of, 0]
    tile = (first[of, 1] + within // across) * columns + first[of, 0] + within % across
    tile, order = torch.sort(tile.int(), stable=True)
    count = torch.bincount(tile, minlength=rows * columns)
    return _Pairs((rows, columns), nearest[of[order]], count.cumsum(0) - count, count)


def _blocks(pairs: _Pairs, through: Tensor, nothing: int) -> Iterator[_Block]:
    """The work, front to back: ``through`` (tiles, pixels) tells which tiles are opaque by now."""
    device, columns = through.device, pairs.tiles[1]
    steps = torch.arange(_DEEP, device=device)
    size = max(1, _BLOCK[device.type] // (_DEEP * _TILE * _TILE))
    active = torch.nonzero(pairs.counts)[:, 0]
    done = 0
    while len(active):
        for tiles in torch.split(active, size):
            left = pairs.counts[tiles, None] - done - steps
            place = pairs.first[tiles, None] + done + steps
            gaussians = pairs.gaussians[place.clamp_max(len(pairs.gaussians) - 1)]
            gaussians = torch.where(left > 0, gaussians, nothing)
            corner = torch.stack([tiles % columns, tiles // columns], dim=-1) * _TILE
            yield _Block(tiles, corner[:, None], gaussians)
        done += _DEEP
        active = active[pairs.counts[active] > done]
        active = active[through[active].amax(dim=1) > _OPAQUE]


class _Composite(torch.autograd.Function):
    """Compositing with its own backward, which computes the pairs of each round again."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, pairs: _Pairs
    ) -> tuple[Tensor, Tensor]:
        table = _table(means, conics, opacities, features)
        tiles = pairs.tiles[0] * pairs.tiles[1]
        flat = means.new_zeros(tiles, features.shape[1], _TILE * _TILE)
        through = means.new_ones(tiles, _TILE * _TILE)
        for block in _blocks(pairs, through, len(means)):
            rows = _rows(table, block.gaussians)
            opacity = _opacity(rows, block.origins)
            before, after = _transmittance(opacity, through[block.tiles])
            flat[block.tiles] += rows[..., 6:].mT @ opacity.mul_(before)
            through[block.tiles] = after
        ctx.save_for_backward(means, conics, opacities, features, flat, through)
        ctx.pairs = pairs
        return flat, through

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        means, conics, opacities, features, flat, through_all = ctx.saved_tensors
        to_flat, to_through = (gradient.contiguous() for gradient in gradients)
        table = _table(means, conics, opacities, features)
        moments = _moments(table)
        sums = table.new_zeros(len(table), 6 + features.shape[1])
        through = torch.ones_like(through_all)
        # What of the loss, to first order, comes from behind the Gaussians done so far.
        behind = (flat * to_flat).sum(dim=1) + through_all * to_through
        for block in _blocks(ctx.pairs, through, len(means)):
            rows = _rows(table, block.gaussians)
            opacity = _opacity(rows, block.origins)
            before, after = _transmittance(opacity, through[block.tiles])
            gain = to_flat[block.tiles]
            worth = rows[..., 6:] @ gain  # (t, g, pixels): the loss per weight
            worth *= before
            seen = torch.cumsum(worth * opacity, dim=1)
            rest = behind[block.tiles][:, None] - seen
            behind[block.tiles] = rest[:, -1]
            worth -= rest.div_(1 - opacity)
            worth *= opacity  # now the gradient of the logarithm of the opacity
            weights = opacity.mul_(before)
            shift = rows[..., :2] - block.origins
            terms = _centred(worth @ moments, shift)
            sums.index_add_(
                0,
                block.gaussians.flatten(),
                torch.cat([terms, weights @ gain.mT], dim=-1).flatten(0, 1),
            )
            through[block.tiles] = after
        total, x, y, xx, xy, yy = sums[:-1, :6].unbind(1)
        a, b, c = conics.unbind(1)
        to_means = torch.stack([a * x + b * y, b * x + c * y], dim=1)
        to_conics = torch.stack([-xx / 2, -xy, -yy / 2], dim=1)
        to_opacities = total / opacities.clamp_min(torch.finfo(means.dtype).tiny)
        return to_means, to_conics, to_opacities, sums[:-1, 6:], None


def _table(means: Tensor, conics: Tensor, opacities: Tensor, features: Tensor) -> Tensor:
    """A row for each Gaussian, and one of nothing: mean, exponent as two squares, features.

    ``d^T conic d / 2 = (p dy + q dx)^2 + r dx^2``: no difference of large numbers.
    """
    a, b, c = conics.unbind(1)
    p = torch.sqrt(c / 2)
    parts = [means, torch.stack([p, b / c * p, (a - b * b / c).clamp_min(0) / 2], dim=1)]
    # A logarithm that underflows in exp, without the infinity of log(0).
    parts += [torch.log(opacities.clamp_min(1e-30))[:, None], features]
    table = torch.cat(parts, dim=1)
    nothing = torch.zeros_like(table[:1])
    nothing[:, 5] = -1e4
    return torch.cat([table, nothing])


def _rows(table: Tensor, gaussians: Tensor) -> Tensor:
    # `index_select` is some times as fast as indexing with a matrix
    return table.index_select(0, gaussians.flatten()).view(*gaussians.shape, -1)


def _opacity(rows: Tensor, origins: Tensor) -> Tensor:
    """(t, g, pixels): the opacity of every Gaussian of a block in every pixel of its tile."""
    centres = torch.arange(_TILE, device=rows.device, dtype=rows.dtype) + 0.5
    (x, y), (p, q, r, log) = rows[..., :2, None].unbind(2), rows[..., 2:6, None].unbind(2)
    dx = (centres + origins[..., 0, None]) - x  # (t, g, columns)
    dy = (centres + origins[..., 1, None]) - y  # (t, g, rows)
    sloped = (p * dy)[..., None] + (q * dx)[..., None, :]  # (t, g, rows, columns)
    straight = (log - r * dx.square())[..., None, :]
    opacity = torch.addcmul(straight, sloped, sloped, value=-1).exp_()
    return torch.nn.functional.threshold(opacity, FAINTEST, 0.0, inplace=True).flatten(2)


def _transmittance(opacity: Tensor, through: Tensor) -> tuple[Tensor, Tensor]:
    """Light let through before each of the Gaussians (t, g, pixels), and after the last."""
    passed = torch.cat([through[:, None], 1 - opacity], dim=1)
    passed = torch.cumprod(passed, dim=1)
    return passed[:, :-1], passed[:, -1]


def _moments(like: Tensor) -> Tensor:
    """(pixels, 6): 1, x, y, x^2, xy, y^2 of the pixel centres of a tile."""
    centres = torch.arange(_TILE, device=like.device, dtype=like.dtype) + 0.5
    y, x = (axis.flatten() for axis in torch.meshgrid(centres, centres, indexing="ij"))
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=1)


def _centred(sums: Tensor, shift: Tensor) -> Tensor:
    """Moments about the point ``shift`` (t, g, 2) from those about the tile's corner."""
    one, x, y, xx, xy, yy = sums.unbind(-1)
    a, b = shift.unbind(-1)
    return torch.stack(
        [
            one,
            x - a * one,
            y - b * one,
            xx - 2 * a * x + a * a * one,
            xy - a * y - b * x + a * b * one,
            yy - 2 * b * y + b * b * one,
        ],
        dim=-1,
    )
