"""A head that makes a Gaussian of each pixel whose depth is known (spec 1.10, 2.20).

Means lie on the rays of the pixels at about their z-depth, up to half a pixel beside their centres;
sizes are in pixels at that depth, so that the unit of the scene does not matter. With the mask of
an object opacities are multiplied by it: outside there is nothing.

Beyond the paper, the head begins with the rule of `crispdepth.tasks.splat`, a disc on the surface
in the colour of the photo, as opaque as its depth is sure, and learns to change it; it knows what
the other views say of each depth (`crispdepth.models.multiview.agreement`), and may move a Gaussian
a little along its ray.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.geometry.rigid import quaternion_from_matrix
from crispdepth.models.multiview.agreement import CHANNELS
from crispdepth.models.multiview.layers import zeroed
from crispdepth.ops.splat import Splats
from crispdepth.ops.splat_projection import SH_0, sh_basis

DEGREE = 2
"""Of the spherical harmonics."""

FIRST_OPACITY = 0.95
"""Opacity of a pixel whose depth is sure, in the beginning."""

SMALLEST, LARGEST = 0.05, 2.0
"""Bounds of the standard deviations, in pixels at the depth of the Gaussian."""

FARTHEST = 0.05
"""How far a Gaussian is moved along its ray at most, as a share of its inverse depth."""

_COEFFICIENTS = (DEGREE + 1) ** 2
_SPLIT = (1, 3, 3, 4, 3 * _COEFFICIENTS)  # opacity, place, scale, quaternion, harmonics
_SIGMA, _THIN = 0.5, 0.2  # of a disc at first: radius in pixels, thickness as a share of it
_MOST_SLANTED = 0.25  # cosine of the slant from which on discs grow no longer
_EDGE = 0.02  # bend of the inverse depth, as a share of it, that is an edge
_ONE = math.log(math.expm1(1.0))  # softplus of it is 1


class GaussianHead(nn.Module):
    """From a photo, its depth and features at half the size to one Gaussian for each pixel."""

    def __init__(self, features: int, width: int = 32) -> None:
        """Reads ``features`` channels; ``width`` channels inside."""
        super().__init__()
        seen = 3 + 1 + 1 + 1 + CHANNELS + features
        self.mix = nn.Sequential(
            nn.Conv2d(seen, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.leave = zeroed(nn.Conv2d(width + seen, sum(_SPLIT), 1))
        # Harmonics beyond the first are to stay small (spec 1.10); the first one is the photo's
        # colour already, and a step of training that moves it moves all colours at once.
        degrees = torch.tensor([d for d in range(DEGREE + 1) for _ in range(2 * d + 1)])
        share = 0.1 * 0.25**degrees
        self.share: Tensor
        self.register_buffer("share", share[:, None], persistent=False)

    def forward(
        self,
        images: Tensor,
        inverse_depth: Tensor,
        probability: Tensor,
        features: Tensor,
        agreement: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        masks: Tensor | None = None,
    ) -> list[Splats]:
        """The Gaussians of each view, H W of them, row by row, in the world.

        Args:
            images: (N, 3, H, W) in [0, 1].
            inverse_depth: (N, 1, H, W) > 0.
            probability: (N, 1, H / 2, W / 2) in [0, 1], how sure the depth is.
            features: (N, C, H / 2, W / 2).
            agreement: (N, 5, H, W), see `crispdepth.models.multiview.agreement.agreement`.
            K: (N, 3, 3), pixels.
            cam_from_world: (N, 4, 4).
            masks: (N, 1, H, W) in [0, 1]; None: ones.
        """
        size = inverse_depth.shape[-2:]
        nearest = inverse_depth.amax(dim=(2, 3), keepdim=True)
        sure = F.interpolate(probability, size=size, mode="nearest")
        bend = _bend(inverse_depth)
        seen = torch.cat(
            (
                images,
                inverse_depth / nearest,
                (bend / _EDGE).clamp(max=1),
                sure,
                F.interpolate(features, size=size, mode="bilinear"),
                agreement,
            ),
            dim=1,
        )
        raw = self.leave(torch.cat((self.mix(seen), seen), dim=1)).flatten(2).mT  # (N, H W, 38)
        colours = images.flatten(2).mT
        opaque = FIRST_OPACITY * sure * torch.exp(-(bend / _EDGE).square())
        first = torch.logit(opaque.flatten(1), eps=1e-3)
        normals = normals_of(inverse_depth, K)
        return [
            self._placed(
                raw[view],
                colours[view],
                inverse_depth[view].flatten(),
                first[view],
                normals[view],
                K[view],
                cam_from_world[view],
                None if masks is None else masks[view].flatten(),
                (size[0], size[1]),
            )
            for view in range(len(raw))
        ]

    def _placed(
        self,
        raw: Tensor,
        colours: Tensor,
        inverse: Tensor,
        first_opacity: Tensor,
        normals: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        mask: Tensor | None,
        size: tuple[int, int],
    ) -> Splats:
        """The Gaussians of one view.

        Args:
            raw: (H W, 38).
            colours: (H W, 3).
            inverse: (H W,) inverse depth.
            first_opacity: (H W,) logits.
            normals: (H W, 3) that look away from the camera, in its axes.
            K, cam_from_world, mask: of the view.
            size: (H, W).
        """
        opacity, place, scale, turn, harmonics = torch.split(raw, [*_SPLIT], dim=1)
        y, x = torch.meshgrid(
            *(torch.arange(side, device=raw.device, dtype=raw.dtype) + 0.5 for side in size),
            indexing="ij",
        )
        pixels = torch.stack((x.flatten(), y.flatten()), dim=1) + torch.sigmoid(place[:, :2]) - 0.5
        depth = 1 / (inverse * (1 + FARTHEST * torch.tanh(place[:, 2])))
        rays = F.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(K).mT  # z = 1
        rotation, translation = cam_from_world[:3, :3], cam_from_world[:3, 3]
        means = (rays * depth[:, None] - translation) @ rotation
        pixel = depth[:, None] / K[[0, 1], [0, 1]].prod().sqrt()
        disc, axes = _discs(normals, rays)
        scales = pixel * (disc * F.softplus(scale + _ONE)).clamp(SMALLEST, LARGEST)
        alpha = torch.sigmoid(opacity[:, 0] + first_opacity)
        upright = F.normalize(turn + torch.tensor([1.0, 0, 0, 0], device=raw.device), dim=1)
        sh = torch.unflatten(harmonics, 1, (_COEFFICIENTS, 3)) * self.share
        sh = turned_sh(sh, rotation.mT)
        first = sh[:, :1] + (colours[:, None] - 0.5) / SH_0
        return Splats(
            means,
            scales,
            product(turn_of(rotation.mT), product(axes, upright)),
            alpha if mask is None else alpha * mask,
            torch.cat((first, sh[:, 1:]), dim=1),
        )


@torch.no_grad()
def normals_of(inverse_depth: Tensor, K: Tensor) -> Tensor:
    """Normals (N, H W, 3) that look away from the camera, in its axes.

    On a plane inverse depth is ``(a, b, c) (x, y, 1)`` and the normal ``K^T (a, b, c)``; of the
    slopes to either side the lesser counts, which is not that across an edge.

    Args:
        inverse_depth: (N, 1, H, W) > 0.
        K: (N, 3, 3), pixels.
    """
    height, width = inverse_depth.shape[2:]
    slopes = []
    for axis in (3, 2):
        step = inverse_depth.diff(dim=axis)
        ends = step.narrow(axis, 0, 1), step.narrow(axis, step.shape[axis] - 1, 1)
        before, after = torch.cat((ends[0], step), axis), torch.cat((step, ends[1]), axis)
        slopes.append(torch.where(before.abs() < after.abs(), before, after)[:, 0])
    y, x = torch.meshgrid(
        *(torch.arange(side, device=K.device, dtype=K.dtype) + 0.5 for side in (height, width)),
        indexing="ij",
    )
    a, b = slopes
    plane = torch.stack((a, b, inverse_depth[:, 0] - a * x - b * y), dim=-1).flatten(1, 2)
    return F.normalize(plane @ K, dim=-1)


def _bend(inverse_depth: Tensor) -> Tensor:
    """(N, 1, H, W): the larger second difference, as a share; 0 on planes, large at edges."""
    bends = []
    for axis in (3, 2):
        step = inverse_depth.diff(dim=axis)
        second = step.diff(dim=axis).abs()
        padding = (1, 1, 0, 0) if axis == 3 else (0, 0, 1, 1)
        bends.append(F.pad(second, padding))
    return torch.maximum(*bends) / inverse_depth


@torch.no_grad()
def _discs(normals: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations (n, 3) in pixels of discs on surfaces, and quaternions (n, 4).

    Axes are down the slope, across it, and the normal. What is seen from the side is drawn out
    down the slope, so that it still fills its pixel.

    Args:
        normals: (n, 3), see `normals_of`.
        rays: (n, 3).
    """
    slant = (normals * F.normalize(rays, dim=1)).sum(dim=1).clamp(_MOST_SLANTED, 1)
    ones = torch.ones_like(slant)
    disc = _SIGMA * torch.stack((1 / slant, ones, _THIN * ones), dim=1)
    x, y, z = normals.unbind(1)
    zero, flat = torch.zeros_like(x), (1 + z).clamp_min(1e-3)
    # The shortest turn of the axis of sight to the normal, and what x and y become by it.
    tilt = F.normalize(torch.stack((flat, -y, x, zero), dim=1), dim=1)
    across = torch.stack((1 - x * x / flat, -x * y / flat, -x), dim=1)
    along = torch.stack((-x * y / flat, 1 - y * y / flat, -y), dim=1)
    half = torch.atan2((rays * along).sum(dim=1), (rays * across).sum(dim=1)) / 2
    about = torch.stack((half.cos(), zero, zero, half.sin()), dim=1)
    return disc, product(tilt, about)


def turned_sh(sh: Tensor, rotation: Tensor) -> Tensor:
    """Harmonics (n, k, 3) of functions that are turned by a rotation (3, 3).

    ``f'(R d) = f(d)``: solved for at directions enough to decide all of the coefficients.
    """
    degree = math.isqrt(sh.shape[1]) - 1
    with torch.no_grad():
        number = torch.arange(64, dtype=torch.float64, device=sh.device)
        z = 1 - (2 * number + 1) / 64
        angle = number * math.pi * (3 - math.sqrt(5))  # a spiral over the sphere
        flat = (1 - z * z).sqrt()
        directions = torch.stack((flat * angle.cos(), flat * angle.sin(), z), dim=1)
        before = sh_basis(directions, degree)
        after = sh_basis(directions @ rotation.double().mT, degree)
        matrix = torch.linalg.lstsq(after, before).solution.to(sh.dtype)
    turned: Tensor = matrix @ sh
    return turned


def turn_of(rotation: Tensor) -> Tensor:
    """w x y z (4,) of a rotation (3, 3), without a gradient."""
    wxyz = quaternion_from_matrix(rotation.detach().cpu().double().numpy())
    return torch.as_tensor(wxyz).to(rotation)


def product(first: Tensor, second: Tensor) -> Tensor:
    """Quaternions (n, 4) of turns by ``second`` (n, 4) and then by ``first``, (4,) or (n, 4)."""
    w, x, y, z = first.unbind(-1)
    a, b, c, d = second.unbind(-1)
    return torch.stack(
        (
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ),
        dim=-1,
    )
