"""Gaussians to pixels, every one in every pixel: slow, and its own derivation of the projection."""

import torch
from torch import Tensor

from crispdepth.ops.splat import FAINTEST, MOST_OPAQUE, Splats
from crispdepth.ops.splat_projection import BLUR_PX2

C0 = 0.28209479177387814


def rotation_of(quaternion: Tensor) -> Tensor:
    """(3, 3) by turning the axes: v + 2 u x (u x v + w v)."""
    w, u = quaternion[0] / quaternion.norm(), quaternion[1:] / quaternion.norm()
    columns = []
    for axis in torch.eye(3, dtype=u.dtype):
        inner = torch.linalg.cross(u, axis) + w * axis
        columns.append(axis + 2 * torch.linalg.cross(u, inner))
    return torch.stack(columns, dim=1)


def reference(
    splats: Splats,
    K: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    *,
    objects: int = 0,
    near: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `crispdepth.ops.splat.render` gives: colour of degree 0, alpha, depth, objects."""
    means, scales, quaternions, opacities, sh, labels = splats
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], dim=-1).to(means)
    rotation = cam_from_world[:3, :3]
    layers = []
    for i in range(len(means)):
        point = rotation @ means[i] + cam_from_world[:3, 3]
        if point[2] <= near:
            continue

        def to_pixels(p: Tensor) -> Tensor:
            return (K @ p)[:2] / p[2]

        jacobian = torch.func.jacrev(to_pixels)(point)
        axes = rotation @ rotation_of(quaternions[i]) @ torch.diag(scales[i])
        covariance = jacobian @ axes @ axes.T @ jacobian.T
        covariance = covariance + BLUR_PX2 * torch.eye(2).to(means)
        d = pixels - to_pixels(point)
        power = -0.5 * torch.einsum("hwi,ij,hwj->hw", d, covariance.inverse(), d)
        alpha = opacities[i].clamp(0, MOST_OPAQUE) * torch.exp(power)
        alpha = torch.where(alpha > FAINTEST, alpha, 0.0)
        colour = (sh[i, 0] * C0 + 0.5).clamp_min(0)
        label = -1 if labels is None else int(labels[i])
        layers.append((point[2], alpha, colour, label))
    layers.sort(key=lambda layer: layer[0].item())
    through = torch.ones(height, width).to(means)
    picture = torch.zeros(height, width, 3).to(means)
    depth = torch.zeros(height, width).to(means)
    shares = torch.zeros(objects, height, width).to(means)
    for z, alpha, colour, label in layers:
        weight = through * alpha
        picture = picture + weight[..., None] * colour
        depth = depth + weight * z
        if label >= 0:
            one = torch.zeros(objects, 1, 1).to(means)
            one[label] = 1
            shares = shares + one * weight
        through = through * (1 - alpha)
    total = 1 - through
    seen = total > FAINTEST
    depth = torch.where(seen, depth / torch.where(seen, total, 1.0), 0.0)
    return picture, total, depth, shares
