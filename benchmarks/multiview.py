"""Depth from several views against the truth: rooms, objects with and without masks, 7-Scenes.

    python benchmarks/multiview.py --data DIR [--every 4] [--quality normal]

``DIR`` holds rooms, objects and sevenscenes. Writes multiview.md: AbsRel of the most confident
shares of the pixels (a share of all pixels that have a truth, so lower completeness costs),
seconds a view (process time) and the peak of memory.
"""

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.io.atomic import write_text
from crispdepth.io.depths import read_depth
from crispdepth.io.images import read_raw
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig, Quality
from crispdepth.tasks.multiview_matching import Matching
from crispdepth.types import Camera, DepthMap, MaskSet, Scene, View, ViewDepth

SHARES = (0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Options:
    """Measure depth from several views."""

    data: Path
    """Folder with rooms, objects and sevenscenes."""

    quality: Quality = "normal"
    """Of rooms and sevenscenes; objects are measured at preview too."""

    every: int = 4
    """Every how many-th view is measured (each with the neighbours it needs)."""

    scenes: tuple[str, ...] = ("rooms/*", "objects/*", "sevenscenes")
    """Patterns below the folder."""

    out: Path = Path(__file__).parent / "results"
    """Where multiview.md goes."""

    pictures: Path | None = None
    """A folder for pictures of depth and confidence, to be looked at."""


def main(options: Options) -> None:
    lines = [
        "| scene | masks | quality | AbsRel % at 40 / 60 / 80 % | of valid | valid % | "
        "within 2 % | s a view | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for pattern in options.scenes:
        for folder in sorted(options.data.glob(pattern)):
            is_object = folder.parent.name == "objects"
            for masked in (True, False) if is_object else (False,):
                lines.append(measure(folder, options, masked))
                print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "multiview.md", "\n".join(lines) + "\n")


def measure(folder: Path, options: Options, masked: bool) -> str:
    """One row of the table."""
    scene = open_scene(folder, masked)
    quality: Quality = "preview" if folder.parent.name == "objects" else options.quality
    wanted = range(options.every // 2, len(scene), options.every)
    config = MultiviewConfig(quality=quality)
    began, pixels = time.process_time(), []
    with patch.object(Matching, "match", autospec=True, side_effect=Matching.match) as match:
        for index, found in estimate_depths(scene, config, indices=wanted, note=print):
            truth = scene[index].depth
            assert truth is not None
            pixels.append(compare(found, truth))
            if options.pictures is not None:
                name = f"{folder.name}-{'masked' if masked else 'plain'}-{index:03}.png"
                picture(options.pictures / name, scene[index], found, truth)
    seconds = (time.process_time() - began) / match.call_count  # of all that were matched
    table = errors(pixels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    shares = " / ".join(f"{value:.2f}" for value in table[: len(SHARES)])
    valid_error, valid, within = table[len(SHARES) :]
    return (
        f"| {folder.name} | {'yes' if masked else 'no'} | {quality} | {shares} | "
        f"{valid_error:.2f} | {valid:.1f} | {within:.1f} | {seconds:.2f} | {peak:.0f} |"
    )


class Pixels(NamedTuple):
    """The pixels of a view that have a truth."""

    apart: NDArray[np.float32]  # |z - z*| / z*
    confidence: NDArray[np.float32]
    valid: NDArray[np.bool_]


def compare(found: ViewDepth, truth: DepthMap) -> Pixels:
    """A found depth beside the truth."""
    size = found.depth.size
    true = cv2.resize(truth.values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    known = true > 0
    apart = np.abs(found.depth.values - true)[known] / true[known]
    return Pixels(apart, found.confidence[known], found.trusted[known])


def errors(pixels: Sequence[Pixels]) -> list[float]:
    """AbsRel % of the most confident shares, of the valid ones; % valid, % within 2 %."""
    apart, confidence, valid = (np.concatenate(parts) for parts in zip(*pixels, strict=True))
    order = np.argsort(-np.where(valid, confidence, -1), kind="stable")
    row = []
    for share in SHARES:
        best = order[: int(share * len(order))]
        row.append(100 * float(apart[best].mean()) if valid[best].all() else float("nan"))
    within = (apart < 0.02) & valid
    return [*row, *(100 * float(part.mean()) for part in (apart[valid], valid, within))]


def picture(path: Path, view: View, found: ViewDepth, truth: DepthMap) -> None:
    """Photo, true depth, depth, confidence side by side."""
    size = found.depth.size
    true = cv2.resize(truth.values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    low, high = np.quantile(1 / true[true > 0], (0.01, 0.99))

    def shade(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
        inverse = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
        scaled = (255 * ((inverse - low) / (high - low)).clip(0, 1)).astype(np.uint8)
        coloured = cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)
        coloured[depth <= 0] = 0
        return np.asarray(coloured, np.uint8)

    image = np.asarray(view.image, np.uint8)[..., ::-1]
    photo = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    sure = cv2.cvtColor((found.confidence * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.hstack((photo, shade(np.asarray(true, np.float32)), shade(found.depth.values), sure))
    cv2.imwrite(str(path), row)


def open_scene(folder: Path, masked: bool) -> Scene:
    """A rendered scene, or 7-Scenes."""
    return _rendered(folder, masked) if (folder / "scene.json").is_file() else _kinect(folder)


def _rendered(folder: Path, masked: bool) -> Scene:
    facts = json.loads((folder / "scene.json").read_text("utf-8"))
    width, height = facts["size"]
    cameras = tuple(Camera(facts["K"], (height, width), pose) for pose in facts["cam_from_world"])
    names = tuple(facts["image_pattern"] % index for index in range(len(cameras)))

    def read(index: int) -> View:
        raw = read_raw(folder / names[index]).array
        steps = read_raw(folder / f"depth/{index:04}.png").array
        depth = steps.astype(np.float32) * np.float32(facts["depth_unit_m"])
        masks = None
        if masked:
            masks = MaskSet(read_raw(folder / f"masks/{index:04}.png").array[None])
        image = raw[..., :3]
        if raw.shape[2] == 4:  # on grey
            alpha = raw[..., 3:].astype(np.float32) / 255
            image = (image * alpha + 128 * (1 - alpha)).astype(np.uint8)
        return View(image, names[index], cameras[index], DepthMap(depth, "depth", "m"), masks)

    return Scene(folder.name, names, cameras, read, bounds=(facts["near"], facts["far"]))


def _kinect(folder: Path) -> Scene:
    stems = [path.name.removesuffix(".color.jpg") for path in sorted(folder.glob("*.color.jpg"))]
    # The file has the depth camera's focal length of 585; with it, points matched between colour
    # photos miss their epipolar lines by up to 9 pixels, with the colour camera's by 1 to 2.
    K = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
    cameras = tuple(
        Camera(K, (480, 640), np.asarray(np.linalg.inv(np.loadtxt(folder / f"{stem}.pose.txt"))))
        for stem in stems
    )

    def read(index: int) -> View:
        image = read_raw(folder / f"{stems[index]}.color.jpg").array
        depth = read_depth(folder / f"{stems[index]}.depth.png", kind="depth", unit="m").depth
        return View(image, stems[index], cameras[index], depth)

    names = tuple(f"{stem}.color.jpg" for stem in stems)
    return Scene(folder.name, names, cameras, read, bounds=(0.4, 6.0))


if __name__ == "__main__":
    main(tyro.cli(Options))
