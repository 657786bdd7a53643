"""Structural similarity of tensors, as a loss."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

_RADIUS, _SIGMA = 5, 1.5  # of the Gaussian window of Wang et al., 2004


def ssim_map(image: Tensor, other: Tensor) -> Tensor:
    """Similarity (c, h, w) of two images (c, h, w) in [0, 1], at most 1; beyond them is black.

    Wang et al., *Image quality assessment*, 2004: a Gaussian window of 11 pixels, sigma 1.5.
    """
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, device=image.device, dtype=image.dtype)
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    stack = torch.cat([image, other, image * image, other * other, image * other])
    blurred = conv2d(stack[:, None], window.view(1, 1, -1, 1), padding=(_RADIUS, 0))
    blurred = conv2d(blurred, window.view(1, 1, 1, -1), padding=(0, _RADIUS))[:, 0]
    a, b, aa, bb, ab = blurred.view(5, *image.shape)
    both, squares = a * b, a * a + b * b
    c1, c2 = 0.01**2, 0.03**2
    similar: Tensor = (2 * both + c1) * (2 * (ab - both) + c2)
    similar /= (squares + c1) * (aa + bb - squares + c2)
    return similar
