"""Make the inputs in examples/ from a photo: a rough depth and a mask, each by a small network.

    python benchmarks/make_example.py --photo P.jpg --depth-onnx D.onnx --mask-onnx M.onnx

The networks are those named in examples/README.md. Needs onnxruntime, which crispdepth does not.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.io.atomic import write_bytes
from crispdepth.io.depths import write_depth
from crispdepth.io.images import read_image, write_image
from crispdepth.types import DepthMap, Float32Map

SALIENT = 0.18  # low: the network is sure of outlines, not of every inside
BAND = 3  # pixels on either side of the network's outline in which the photo decides


@dataclass(frozen=True)
class Options:
    """Make the rough depth and the mask of a photo."""

    photo: Path  # JPEG; it is copied
    depth_onnx: Path  # TCMonoDepth-small: (1, 3, 192, 320) in [0, 255] to relative inverse depth
    mask_onnx: Path  # U2-Netp: (1, 3, 320, 320), normalised as ImageNet, to saliency
    out: Path = Path(__file__).parents[1] / "examples/parrots"  # .jpg, _depth.png, _mask.png


def run_network(path: Path, image: NDArray[np.generic]) -> Float32Map:
    """(h, w, 3) to (h, w) in [0, 1]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: image.astype(np.float32).transpose(2, 0, 1)[None]}
    values = session.run(None, inputs)[0].squeeze()
    return np.asarray((values - values.min()) / np.ptp(values), np.float32)


def rough_depth(network: Path, photo: NDArray[np.uint8]) -> DepthMap:
    """As small as the network makes it, but in the shape of the photo."""
    values = run_network(network, cv2.resize(photo, (320, 192), interpolation=cv2.INTER_AREA))
    size = round(192 * photo.shape[1] / photo.shape[0]), 192
    resized = cv2.resize(values, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return DepthMap(resized, "inverse_depth", "relative")


def sharp_mask(network: Path, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The network's outline, moved by GrabCut to where the colours change, and softened."""
    small = cv2.resize(photo, (320, 320), interpolation=cv2.INTER_AREA)
    normal = (small / small.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    saliency = cv2.resize(run_network(network, normal), photo.shape[1::-1])
    inside = (saliency > SALIENT).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1, 2 * BAND + 1))
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(inside, disc) > 0] = cv2.GC_FGD
    labels[cv2.dilate(inside, disc) == 0] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    colours = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photo, labels, (0, 0, 1, 1), *colours, 5, cv2.GC_INIT_WITH_MASK)
    cut = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.rint(255 * cv2.GaussianBlur(cut, (0, 0), 0.5)).astype(np.uint8)


def main(options: Options) -> None:
    photo = np.array(read_image(options.photo).rgb, np.uint8)
    write_bytes(f"{options.out}.jpg", options.photo.read_bytes())
    provenance = {"network": options.depth_onnx.stem, "photo": options.photo.name}
    depth = rough_depth(options.depth_onnx, photo)
    write_depth(f"{options.out}_depth.png", depth, provenance=provenance)
    write_image(f"{options.out}_mask.png", sharp_mask(options.mask_onnx, photo))


if __name__ == "__main__":
    main(tyro.cli(Options))
