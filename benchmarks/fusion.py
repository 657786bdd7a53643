"""Fusing given depth: quality, time and memory, beside Open3D at the same voxel size.

    python benchmarks/fusion.py --data /path/to/data --peer /path/to/venv/bin/python

``data`` holds ``rooms`` and ``objects`` (exact depth) and ``sevenscenes`` (a real Kinect
sequence). The peer is the Python of an environment with open3d-cpu 0.19.0; its
ScalableTSDFVolume is called ``scalable`` here, its VoxelBlockGrid ``grid``. Each method runs in a
process of its own. Truth are the exact depths as points: what could be seen, and nothing else.
Writes fusion.md and fusion.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from crispdepth.evaluation.mesh import sample_surface, score_points, thin_points
from crispdepth.geometry.backproject import pixel_rays
from crispdepth.io.atomic import write_text
from crispdepth.io.meshes import read_mesh, write_mesh
from crispdepth.tasks.fuse import FuseConfig
from crispdepth.types import Camera, DepthMap, View, ViewDepth

TRUNCATION = 3.0  # voxels, for both
SAMPLES = 1_000_000
ROOM_VOXEL, OBJECT_VOXEL = 0.02, 0.001
CORRIDOR = (20, 200)  # views of the short corridor and of the long one
CORRIDOR_MEMORY = 0.02  # GB of blocks


@dataclass(frozen=True)
class Options:
    """Measure fusion beside Open3D."""

    data: Path = Path("data")
    """Folder of rooms, objects and sevenscenes."""

    peer: Path | None = None
    """Python of an environment with open3d-cpu; without it, Open3D is left out."""

    scenes: tuple[str, ...] = ()
    """Only these, such as rooms/room_a_table; none: all."""

    out: Path = Path(__file__).parent / "results"
    """Where fusion.md and fusion.json go."""

    threads: int = 2
    """Threads of all."""

    repeat: int = 1
    """Runs of each method, in turns; the least seconds and memory count."""


class Frame(NamedTuple):
    depth: NDArray[np.float32]
    image: NDArray[np.uint8]
    camera: Camera


def main(options: Options) -> None:
    rows = []
    methods = ("crispdepth", "scalable", "grid") if options.peer else ("crispdepth",)
    names = options.scenes or (
        *sorted(str(p.relative_to(options.data)) for p in options.data.glob("rooms/*")),
        *sorted(str(p.relative_to(options.data)) for p in options.data.glob("objects/*")),
        "sevenscenes",
    )
    for name in names:
        frames = list(read_frames(options.data / name))
        voxel = OBJECT_VOXEL if name.startswith("objects") else ROOM_VOXEL
        truth = None if name == "sevenscenes" else seen_points(frames, voxel / 4)
        with tempfile.TemporaryDirectory() as folder:
            put_down(Path(folder), frames)
            reports: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
            for _ in range(options.repeat):  # in turns, since other programs come and go
                for method in methods:
                    mesh = Path(folder) / f"{method}.ply"
                    reports[method].append(run(method, Path(folder), voxel, mesh, options))
            for method in methods:
                mesh = Path(folder) / f"{method}.ply"
                row = {"scene": name, "method": method, "views": len(frames), "voxel": voxel}
                row |= least(reports[method])
                if truth is not None:
                    row |= score(mesh, truth, name.startswith("objects"))
                rows.append(row)
                print(json.dumps(row), flush=True)
    if not options.scenes:
        lengths = [(views, corridor(views)) for _ in range(options.repeat) for views in CORRIDOR]
        for views in CORRIDOR:
            row = {"scene": "corridor", "method": "crispdepth", "views": views, "voxel": ROOM_VOXEL}
            rows.append(row | least([report for length, report in lengths if length == views]))
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "fusion.md", table(rows))
    write_text(options.out / "fusion.json", json.dumps(rows, indent=1) + "\n")
    print(table(rows))


def read_frames(folder: Path) -> Iterator[Frame]:
    """The frames of a rendered scene or of 7-Scenes."""
    if (folder / "scene.json").is_file():
        scene = json.loads((folder / "scene.json").read_text("utf-8"))
        width, height = scene["size"]
        for index, pose in enumerate(scene["cam_from_world"]):
            depth = np.asarray(Image.open(folder / f"depth/{index:04}.png"), np.float32)
            image = Image.open(folder / (scene["image_pattern"] % index)).convert("RGB")
            camera = Camera(np.array(scene["K"]), (height, width), np.array(pose))
            yield Frame(depth * np.float32(scene["depth_unit_m"]), np.array(image), camera)
        return
    K = np.loadtxt(folder / "camera-intrinsics.txt")
    for pose in sorted(folder.glob("*.pose.txt")):
        stem = pose.name.removesuffix(".pose.txt")
        depth = np.asarray(Image.open(folder / f"{stem}.depth.png"), np.float32) / np.float32(1000)
        depth = np.where(depth < 65, depth, np.float32(0))
        image = Image.open(folder / f"{stem}.color.jpg").convert("RGB")
        height, width = depth.shape
        cam_from_world = np.asarray(np.linalg.inv(np.loadtxt(pose)), np.float64)
        yield Frame(depth, np.array(image), Camera(K, (height, width), cam_from_world))


def seen_points(frames: list[Frame], spacing: float) -> NDArray[np.float64]:
    """What the views see, thinned."""
    parts = []
    for depth, _, camera in frames:
        pose = camera.cam_from_world
        points = (pixel_rays(camera) * depth[..., None])[depth > 0]
        parts.append(thin_points((points - pose[:3, 3]) @ pose[:3, :3], spacing))
    return thin_points(np.concatenate(parts), spacing)


def put_down(folder: Path, frames: list[Frame]) -> None:
    for index, frame in enumerate(frames):
        np.save(folder / f"{index}d.npy", frame.depth)
        np.save(folder / f"{index}c.npy", frame.image)
    np.savez(
        folder / "cameras.npz",
        K=[frame.camera.K for frame in frames],
        pose=[frame.camera.cam_from_world for frame in frames],
    )


def run(method: str, frames: Path, voxel: float, mesh: Path, options: Options) -> dict[str, float]:
    """Fuse in a process of its own; seconds and memory."""
    here = Path(__file__)
    python, script = (
        (sys.executable, here)
        if method == "crispdepth"
        else (str(options.peer), here.with_name("fusion_open3d.py"))
    )
    command = [python, str(script)]
    command += ["--worker"] if method == "crispdepth" else []
    command += [str(frames), str(voxel), str(TRUNCATION * voxel), str(mesh)]
    command += [] if method == "crispdepth" else [method]
    limits = {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env=os.environ | limits, text=True
    )
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


def least(reports: list[dict[str, float]]) -> dict[str, float]:
    return {key: min(report[key] for report in reports) for key in reports[0]}


def work(frames: Path, voxel: float, truncation: float, mesh: Path) -> None:
    """Our side of `run`."""
    import torch

    from crispdepth.tasks.fuse import integrate_view, start_volume, surface

    config = FuseConfig(voxel=voxel, truncation=truncation / voxel, min_piece=0)
    for name in ("skimage.measure", "scipy.sparse.csgraph"):  # not counted as fusion's memory
        import_module(name)
    torch.zeros(8).sum()
    cameras, seconds = np.load(frames / "cameras.npz"), 0.0
    before = memory("VmRSS")
    volume, cpu = start_volume(voxel, config), time.process_time()
    for index, (K, pose) in enumerate(zip(cameras["K"], cameras["pose"], strict=True)):
        depth, colour = np.load(frames / f"{index}d.npy"), np.load(frames / f"{index}c.npy")
        start = time.perf_counter()
        integrate_view(
            volume, *measured(Frame(depth, colour, Camera(K, depth.shape, pose))), config
        )
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    result = surface(volume, config)
    extraction, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory("VmHWM")
    write_mesh(mesh, result)
    report = {"seconds": seconds, "extraction": extraction, "cpu": cpu}
    print(json.dumps(report | {"peak_mb": peak, "growth_mb": peak - before}))


def memory(name: str) -> float:
    """Megabytes of this process as Linux counts them: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def measured(frame: Frame) -> tuple[View, ViewDepth]:
    depth = DepthMap(frame.depth, "depth", "m")
    view = View(frame.image, camera=frame.camera)
    return view, ViewDepth(depth, depth.usable.astype(np.float32))


def score(path: Path, truth: NDArray[np.float64], is_object: bool) -> dict[str, float]:
    points = sample_surface(read_mesh(path), SAMPLES, np.random.default_rng(0))
    unit = 0.1 if is_object else 1.0  # objects are ten times smaller, and so are their voxels
    result: dict[str, float] = {}
    for centimetres in (5, 1):
        scored = score_points(points, truth, unit * centimetres / 100)
        result |= {
            f"precision_{centimetres}": scored.precision,
            f"recall_{centimetres}": scored.recall,
            f"f_{centimetres}": scored.f_score,
        }
    return result | {
        "accuracy_mm": 1e3 * scored.accuracy,
        "completeness_mm": 1e3 * scored.completeness,
    }


def corridor(views: int) -> dict[str, float]:
    """A walk between two walls, rendered exactly on the way; blocks beyond the budget spill."""
    code = f"import fusion; fusion.walk({views})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent,
        text=True,
    )
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


def walk(views: int) -> None:
    """One process of `corridor`."""
    from crispdepth.tasks.fuse import integrate_view, start_volume

    config = FuseConfig(voxel=ROOM_VOXEL, max_memory=CORRIDOR_MEMORY)
    volume = start_volume(ROOM_VOXEL, config)
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    for number in range(views):
        pose = np.eye(4)
        pose[2, 3] = -0.5 * number
        camera = Camera(K, (240, 320), pose)
        rays = pixel_rays(camera)
        with np.errstate(divide="ignore"):  # walls at x = 1 and -1, floor and ceiling at y = 1.2
            depth = np.minimum(1 / np.abs(rays[..., 0]), 1.2 / np.abs(rays[..., 1]))
        depth = np.where(depth < 4, depth, 0).astype(np.float32)
        shade = np.uint8(number % 255)
        frame = Frame(depth, np.full((240, 320, 3), shade), camera)
        integrate_view(volume, *measured(frame), config)
    report = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    peak = memory("VmHWM")
    report |= {"peak_mb": peak, "growth_mb": peak - before, "blocks": len(volume.store)}
    print(json.dumps(report))


def table(rows: list[dict[str, Any]]) -> str:
    columns = {
        "scene": "scene",
        "method": "method",
        "views": "views",
        "voxel": "voxel m",
        "seconds": "fuse s",
        "extraction": "mesh s",
        "cpu": "CPU s, all and reading",
        "peak_mb": "peak MB of the process",
        "growth_mb": "of it above the imports",
        "f_5": "F 5 cm",
        "f_1": "F 1 cm",
        "precision_1": "P 1 cm",
        "recall_1": "R 1 cm",
        "accuracy_mm": "Acc mm",
        "completeness_mm": "Comp mm",
        "blocks": "blocks",
    }

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return "\n".join(
        [
            "Objects are scored at 5 mm and 1 mm. `scalable` is Open3D's ScalableTSDFVolume, "
            "`grid` its VoxelBlockGrid. The peak is the resident memory of the whole process "
            "(VmHWM); above the imports: less what was resident before the first frame.",
            "",
            "| " + " | ".join(columns.values()) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(cell(row.get(key, "")) for key in columns) + " |" for row in rows),
            "",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
    else:
        main(tyro.cli(Options))
