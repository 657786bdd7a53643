"""A head that makes a Gaussian of each pixel whose depth is known (spec 1.10, 2.20).

Means lie on the rays of the pixels at about their z-depth, up to half a pixel beside their centres;
sizes are in pixels at that depth, so that the unit of the scene does not matter; colours are the
photo's at first. With the mask of an object opacities are multiplied by it: outside there is
nothing. Beyond the paper, the head knows what the other views say of each depth
(`crispdepth.models.multiview.agreement`), and may move a Gaussian a little along its ray.
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

FIRST_OPACITY = 2.0
"""Logit of the opacity in the beginning."""

SMALLEST, LARGEST = 0.05, 2.0
"""Bounds of the standard deviations, in pixels at the depth of the Gaussian."""

FARTHEST = 0.05
"""How far a Gaussian is moved along its ray at most, as a share of its inverse depth."""

_COEFFICIENTS = (DEGREE + 1) ** 2
_SPLIT = (1, 3, 3, 4, 3 * _COEFFICIENTS)  # opacity, place, scale, quaternion, harmonics
_RELIEF = 10.0  # inverse depth beside the mean about it: so many times the relative difference
_FIRST_SCALE = math.log(math.expm1(0.5))  # softplus of it is half a pixel


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
        # Harmonics beyond the first are to stay small (spec 1.10).
        degrees = torch.tensor([d for d in range(DEGREE + 1) for _ in range(2 * d + 1)])
        share = torch.where(degrees == 0, 1.0, 0.1 * 0.25**degrees)
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
        about = F.avg_pool2d(inverse_depth, 5, 1, 2, count_include_pad=False)
        seen = torch.cat(
            (
                images,
                inverse_depth / nearest,
                (_RELIEF * (inverse_depth / about - 1)).clamp(-1, 1),
                F.interpolate(probability, size=size, mode="nearest"),
                F.interpolate(features, size=size, mode="bilinear"),
                agreement,
            ),
            dim=1,
        )
        raw = self.leave(torch.cat((self.mix(seen), seen), dim=1)).flatten(2).mT  # (N, H W, 38)
        colours = images.flatten(2).mT
        inverse = inverse_depth.flatten(1)
        return [
            self._placed(
                raw[view],
                colours[view],
                inverse[view],
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
        K: Tensor,
        cam_from_world: Tensor,
        mask: Tensor | None,
        size: tuple[int, int],
    ) -> Splats:
        """The Gaussians of one view; raw values (H W, 38), colours (H W, 3), inverse depth
        (H W,).
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
        scales = pixel * F.softplus(scale + _FIRST_SCALE).clamp(SMALLEST, LARGEST)
        alpha = torch.sigmoid(opacity[:, 0] + FIRST_OPACITY)
        upright = turn + torch.tensor([1.0, 0, 0, 0], device=raw.device)
        sh = torch.unflatten(harmonics, 1, (_COEFFICIENTS, 3)) * self.share
        sh = turned_sh(sh, rotation.mT)
        first = sh[:, :1] + (colours[:, None] - 0.5) / SH_0
        return Splats(
            means,
            scales,
            product(turn_of(rotation.mT), F.normalize(upright, dim=1)),
            alpha if mask is None else alpha * mask,
            torch.cat((first, sh[:, 1:]), dim=1),
        )


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
    """Quaternions (n, 4) of the turns by ``second`` (n, 4) and then by ``first`` (4,)."""
    w, x, y, z = first.unbind()
    left = torch.stack(
        (
            torch.stack((w, -x, -y, -z)),
            torch.stack((x, w, -z, y)),
            torch.stack((y, z, w, -x)),
            torch.stack((z, -y, x, w)),
        )
    )
    return second @ left.mT
