"""How sharp depth gets from half to full size at a mask: bilinear, and pixel-adaptive.

    python benchmarks/mask_upsampling.py --data DIR [--views 4]

DIR holds scenes with true depth and one soft mask a view. A cell at half size has the mean inverse
depth of its majority, inside or outside the mask; errors are relative, of pixels within 3 of the
mask's border. No network, no learned weights. Prints a table.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from crispdepth.io.scenes import read_scene
from crispdepth.ops.pac import bilinear_taps, pac_conv_transpose2d

BAND = 3  # pixels to either side of the border
CONTRAST = 6.0  # of the guide across the border


@dataclass(frozen=True)
class Options:
    """What to measure on."""

    data: Path  # a folder of scenes
    views: int = 4  # of each scene, spread over it


def main(options: Options) -> None:
    print("| scene | bilinear | guide at the pixel | guide averaged over the cell |")
    print("|---|---:|---:|---:|")
    rows = []
    for folder in sorted(path for path in options.data.iterdir() if path.is_dir()):
        scene = read_scene(folder)
        picked = np.linspace(0, len(scene) - 1, options.views).round().astype(int)
        errors = []
        for view in (scene[int(index)] for index in picked):
            if view.depth is None or view.masks is None or len(view.masks) != 1:
                raise SystemExit(f"{folder} has views without true depth or without one mask.")
            rho = np.divide(
                1, view.depth.values, where=view.depth.valid, out=np.zeros_like(view.depth.values)
            )
            errors.append(measure(tensor(rho), tensor(view.masks[0])))
        rows.append(np.mean(errors, axis=0))
        report(scene.name, rows[-1])
    report("mean", np.mean(rows, axis=0))


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)[None, None].float()


def report(name: str, errors: np.ndarray) -> None:
    print(f"| {name} | " + " | ".join(f"{100 * each:.2f} %" for each in errors) + " |", flush=True)


def measure(rho: Tensor, mask: Tensor) -> list[float]:
    """Mean relative errors in the band, of inverse depth (1, 1, H, W), 0 = unknown."""
    sides = [side - side % 2 for side in rho.shape[-2:]]
    rho, mask = (each[..., : sides[0], : sides[1]] for each in (rho, mask))
    hard = (mask > 0.5).float()
    size = 2 * BAND + 1
    grown, shrunk = (sign * F.max_pool2d(sign * hard, size, 1, BAND) for sign in (1, -1))
    known = F.pixel_unshuffle(rho, 2) > 0
    inside = F.pixel_unshuffle(hard, 2) > 0
    side = inside == (F.avg_pool2d(hard, 2) >= 0.5)
    weight = (known & side).float()
    # A cell of which only the minority is known has its depth.
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, known.float())
    coarse = (F.pixel_unshuffle(rho, 2) * weight).sum(1, keepdim=True)
    coarse = coarse / weight.sum(1, keepdim=True).clamp(min=1)
    guide, taps = CONTRAST * mask, bilinear_taps(2)
    found = [
        F.interpolate(coarse, scale_factor=2, mode="bilinear"),
        pac_conv_transpose2d(coarse, guide, taps, normalise=True),
        pac_conv_transpose2d(
            coarse, guide, taps, input_guide=F.avg_pool2d(guide, 2), normalise=True
        ),
    ]
    band = (grown > shrunk) & (rho > 0)
    return [float(((each - rho).abs() / rho)[band].mean()) for each in found]


if __name__ == "__main__":
    main(tyro.cli(Options))
