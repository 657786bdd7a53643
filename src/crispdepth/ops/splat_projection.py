"""Gaussians in space as ellipses in an image: the EWA projection (Zwicker et al., 2001).

With the constants of *3D Gaussian Splatting* (Kerbl et al., 2023), so that other programs show the
same picture of the same Gaussians.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BLUR_PX2 = 0.3
"""Variance in square pixels that is added to every ellipse: none falls between the pixels."""

_MARGIN = 0.3
"""How far beyond the frame, as a share of its half, the projection is linearised where a Gaussian
is; farther outside it is linearised at that limit."""

SH_0 = 0.28209479177387814
"""The harmonic of degree 0: colour = 0.5 + SH_0 * coefficient."""

_SH = (
    SH_0,
    0.4886025119029199,
    (1.0925484305920792, 0.31539156525252005, 0.5462742152960396),
    (
        0.5900435899266435,
        2.890611442640554,
        0.4570457994644658,
        0.3731763325901154,
        1.445305721320277,
    ),
)


class Ellipses(NamedTuple):
    """Gaussians as a camera sees them; those that it cannot see have no reach."""

    means: Tensor  # (n, 2), pixels
    conics: Tensor  # (n, 3), xx xy yy of the inverse covariance, 1 / pixels^2
    depths: Tensor  # (n,), z of the means
    reach: Tensor  # (n, 2), half sizes in pixels of the boxes in which they count; 0 if unseen


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """(n, 3, 3) of quaternions w x y z (n, 4), which need not be of unit length."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).view(-1, 3, 3)


def project(
    means: Tensor,
    scales: Tensor,
    quaternions: Tensor,
    opacities: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    *,
    near: float,
    faintest: float,
) -> Ellipses:
    """The ellipses of Gaussians, differentiable but for the reach.

    Args:
        means: (n, 3), world.
        scales: (n, 3), standard deviations.
        quaternions: (n, 4), w x y z, world from the axes of the Gaussian.
        opacities: (n,) in [0, 1].
        K: (3, 3), pixels; any principal point, and skew.
        cam_from_world: (4, 4).
        size: (height, width).
        near: nearest z that is seen, in the unit of the world.
        faintest: opacity below which a Gaussian does not count in a pixel.
    """
    rotation, (height, width) = cam_from_world[:3, :3], size
    in_camera = means @ rotation.T + cam_from_world[:3, 3]
    z = in_camera[:, 2]
    seen = z > near
    # What is behind the camera has no ellipse; a depth of 1 keeps its gradient finite.
    safe = torch.where(seen, z, torch.ones_like(z))
    ray = in_camera[:, :2] / safe[:, None]
    corners = torch.tensor([[0.0, width], [0.0, height]], dtype=K.dtype, device=K.device)
    low, high = ((corners - K[:2, 2:]) / K.diagonal()[:2, None]).sort(dim=1).values.unbind(1)
    slack = _MARGIN / 2 * (high - low)
    slope = torch.minimum(torch.maximum(ray, low - slack), high + slack)

    axes = (rotation @ rotation_matrices(quaternions)) * scales[:, None, :]
    spread = K[:2, :2] @ (axes[:, :2] - slope[..., None] * axes[:, 2:]) / safe[:, None, None]
    xx, yy = spread.square().sum(dim=-1).add(BLUR_PX2).unbind(-1)
    xy = (spread[:, 0] * spread[:, 1]).sum(dim=-1)
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None]
    with torch.no_grad():
        deviations = 2 * torch.log((opacities / faintest).clamp_min(1))
        reach = torch.sqrt(deviations[:, None] * torch.stack([xx, yy], dim=-1))
        reach = reach * seen[:, None]
    flat = ray @ K[:2, :2].T + K[:2, 2]
    return Ellipses(flat, conics, z, reach)


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics (n, (degree + 1)^2) of unit directions (n, 3), order of 3DGS."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, _SH[0])]
    if degree > 0:
        basis += [-_SH[1] * y, _SH[1] * z, -_SH[1] * x]
    if degree > 1:
        a, b, c = _SH[2]
        basis += [a * x * y, -a * y * z, b * (3 * z * z - 1), -a * x * z, c * (x * x - y * y)]
    if degree > 2:
        a, b, c, d, e = _SH[3]
        basis += [
            -a * y * (3 * x * x - y * y),
            b * x * y * z,
            -c * y * (5 * z * z - 1),
            d * z * (5 * z * z - 3),
            -c * x * (5 * z * z - 1),
            e * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, dim=-1)


def sh_colours(sh: Tensor, directions: Tensor) -> Tensor:
    """The colours (n, 3), at least 0, that Gaussians show in these directions.

    Args:
        sh: (n, (degree + 1)^2, 3), degree up to 3, of sRGB - 0.5, in the order of 3DGS.
        directions: (n, 3) from the camera to the Gaussians, of unit length, world axes.
    """
    weights = sh_basis(directions, math.isqrt(sh.shape[1]) - 1)[:, None]
    return torch.clamp_min((weights @ sh)[:, 0] + 0.5, 0)
