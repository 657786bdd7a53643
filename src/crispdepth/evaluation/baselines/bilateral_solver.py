"""The fast bilateral solver (needs SciPy, extra ``bench``)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.evaluation.baselines.filters import label_map
from crispdepth.types import Float32Map, MaskSet

SIGMA_SPACE = 8.0  # pixels per grid cell
SIGMA_LUMA = 4.0  # 8-bit steps per grid cell
SIGMA_CHROMA = 4.0
SMOOTHNESS = 32.0  # lambda
ITERATIONS = 25  # of conjugate gradients
BISTOCHASTIC_ITERATIONS = 10


def fast_bilateral_solver(
    image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet
) -> Float32Map:
    """Barron & Poole, *The Fast Bilateral Solver* (ECCV 2016), on photo and masks.

    Solved on the paper's simplified bilateral grid over (x, y, luma, chroma, chroma) with the
    mask a pixel belongs to (cut at 0.5) as a sixth coordinate whose cells are not neighbours, so
    nothing is smoothed across a mask's edge. On the sets that the README's table is measured on,
    R3 / eps_acc was larger with a lambda of 32 than with the usual 128, and with a uniform
    confidence than with one that is low where the depth is steep.

    Args:
        image: (h, w, 3).
        inverse_depth: (h, w), on any affine scale.
        masks: (n, h, w).

    Raises:
        ImportError: SciPy is not installed.
    """
    sparse, solve = _scipy()
    low = inverse_depth.min()
    span = np.ptp(inverse_depth) or np.float32(1)
    target = ((inverse_depth - low) / span).astype(np.float64).ravel()

    cell, blur = _grid(sparse, image, label_map(masks))
    splat = sparse.csr_matrix(
        (np.ones(cell.size), (cell, np.arange(cell.size))), shape=(blur.shape[0], cell.size)
    )
    pixels = splat @ np.ones(cell.size)
    scaling, mass = _bistochastise(blur, pixels)
    diagonal = sparse.diags(scaling)
    smoothness = sparse.diags(mass) - diagonal @ blur @ diagonal
    matrix = (SMOOTHNESS * smoothness + sparse.diags(pixels)).tocsr()
    right = splat @ target
    preconditioner = sparse.diags(1 / matrix.diagonal())
    solution, _ = solve(
        matrix, right, x0=right / pixels, M=preconditioner, maxiter=ITERATIONS, atol=0.0
    )
    solved = (splat.T @ solution).reshape(inverse_depth.shape) * float(span) + float(low)
    refined: Float32Map = solved.astype(np.float32)
    return refined


def _scipy() -> tuple[Any, Any]:
    """``scipy.sparse`` and its conjugate gradients."""
    try:
        from scipy import sparse
        from scipy.sparse.linalg import cg
    except ImportError as error:
        raise ImportError(
            'The fast bilateral solver needs SciPy: pip install "crispdepth[bench]".'
        ) from error
    return sparse, cg


def _grid(
    sparse: Any, image: NDArray[np.uint8], labels: NDArray[np.int32]
) -> tuple[NDArray[np.int64], Any]:
    """The occupied cell of every pixel, (h * w,), and the [1 2 1] blur over the cells."""
    y, x = np.indices(labels.shape)
    luma, *chroma = np.moveaxis(_yuv(image), -1, 0)
    coordinates = [
        x / SIGMA_SPACE,
        y / SIGMA_SPACE,
        luma / SIGMA_LUMA,
        *(channel / SIGMA_CHROMA for channel in chroma),
        labels,
    ]
    # One integer per cell; each axis has room for a neighbour beyond its ends.
    keys = np.zeros(labels.size, np.int64)
    strides = []
    stride = 1
    for coordinate in coordinates:
        index = np.floor(coordinate).astype(np.int64).ravel() + 1
        keys += index * stride
        strides.append(stride)
        stride *= int(index.max()) + 2
    vertices, cell = np.unique(keys, return_inverse=True)

    smoothed = strides[:-1]  # not along the labels
    blur = 2.0 * len(smoothed) * sparse.identity(len(vertices), format="csr")
    for step in smoothed:
        position = np.minimum(np.searchsorted(vertices, vertices + step), len(vertices) - 1)
        (found,) = np.nonzero(vertices[position] == vertices + step)
        neighbours = sparse.csr_matrix(
            (np.ones(found.size), (found, position[found])), shape=blur.shape
        )
        blur = blur + neighbours + neighbours.T
    return cell.ravel(), blur


def _yuv(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Luma and chroma of BT.601, each within about [0, 255]."""
    matrix = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    yuv: NDArray[np.float64] = image @ matrix.T + np.array([0.0, 128.0, 128.0])
    return yuv


def _bistochastise(
    blur: Any, pixels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The diagonals n and m with ``n * (blur @ n) == m``, m near the pixels per cell."""
    scaling = np.ones_like(pixels)
    for _ in range(BISTOCHASTIC_ITERATIONS):
        scaling = np.sqrt(scaling * pixels / (blur @ scaling))
    # Not `pixels`: with this m a constant is smooth exactly, whatever is left to converge.
    return scaling, scaling * (blur @ scaling)
