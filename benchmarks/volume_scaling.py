"""What learned fusion costs: time and memory against views, size of the volume and memory allowed.

    python benchmarks/volume_scaling.py

Scenes are halls and corridors whose depth is known in closed form. What is asked of the network
does not depend on its weights, so these are fresh; ``--preset volume`` has the paper's numbers.
``dense`` is one grid about the whole scene, ``tiled`` the product with so many gigabytes allowed.
Each measurement runs in a process of its own. Writes volume_scaling.md and volume_scaling.json, or
with ``--device cuda`` volume_scaling_cuda.md and .json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.io.atomic import write_text
from crispdepth.types import Camera, DepthMap, View, ViewDepth

SIZE = (240, 320)
FOCAL = 200.0
PAPER = (16.64, 5.12, 16.64)  # m, 416 x 128 x 416 voxels of 4 cm

Part = Literal["views", "size", "corridor", "paper"]


@dataclass(frozen=True)
class Options:
    """Measure learned fusion against views, size and memory."""

    parts: tuple[Part, ...] = ("views", "size", "corridor", "paper")
    """What to measure."""

    preset: str = "volume-small"
    """Of the network."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the network computes."""

    out: Path = Path(__file__).parent / "results"
    """Where volume_scaling.md and volume_scaling.json go."""

    threads: int = 2
    """Threads of each measurement."""


@dataclass(frozen=True)
class Case:
    """One measurement."""

    part: Part
    preset: str
    views: int
    hall: tuple[float, float, float]  # width, height, length; m
    memory: float  # GB; 0: dense
    voxel: float = 0.04
    far: float = 1e3  # depth beyond this is not measured; m
    walk: bool = False  # along the hall and not about its middle
    device: str = "cpu"


def cases(options: Options) -> Iterator[Case]:
    room = (4.0, 2.5, 5.0)
    for part in options.parts:
        if part == "views":
            for views in (10, 40, 160):
                yield Case(part, options.preset, views, room, 1.0)
        if part == "size":
            for scale in (0.7, 1.0, 1.4, 2.0):
                hall = tuple(scale * side for side in room)
                for memory in (0.0, 2.0, 1.0, 0.5):
                    yield Case(part, options.preset, 20, hall, memory)  # type: ignore[arg-type]
        if part == "corridor":
            for views in (20, 100, 200, 1000):
                hall = (2.0, 2.4, 1.0 * views)
                yield Case(part, options.preset, views, hall, 0.5, far=3.0, walk=True)
        if part == "paper":
            yield Case(part, options.preset, 40, PAPER, 2.0)


def main(options: Options) -> None:
    rows = []
    for case in cases(options):
        rows.append(run(replace(case, device=options.device), options.threads))
        print(json.dumps(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "volume_scaling" + ("" if options.device == "cpu" else f"_{options.device}")
    write_text(options.out / f"{name}.json", json.dumps(rows, indent=1) + "\n")
    write_text(options.out / f"{name}.md", table(rows))
    print(table(rows))


def run(case: Case, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", json.dumps(asdict(case))]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        text=True,
    )
    report: dict[str, Any] = asdict(case) | json.loads(done.stdout.splitlines()[-1])
    return report


def seen(case: Case) -> Iterator[tuple[View, ViewDepth]]:
    """Views of a hall from inside; the camera turns about the vertical, or walks along it."""
    half = np.array(case.hall) / 2
    for number in range(case.views):
        pose, angle = np.eye(4), 0.0 if case.walk else 2.4 * number  # by the golden angle
        turn = np.array(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        )
        centre = 0.3 * half * [np.sin(5.3 * number), 0, np.cos(3.1 * number)]
        if case.walk:
            centre = np.array([0, 0, number - half[2] + 0.5])
        pose[:3, :3], pose[:3, 3] = turn, -turn @ centre
        K = np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])
        camera = Camera(K, SIZE, pose)
        rays = pixel_rays(camera) @ turn
        with np.errstate(divide="ignore"):
            walls = (np.sign(rays) * half - centre) / rays
        depth = walls.min(axis=-1)
        points = centre + depth[..., None] * rays
        image: NDArray[np.uint8] = (127 + 90 * np.sin(5 * points)).astype(np.uint8)
        z = DepthMap(np.where(depth < case.far, depth, 0).astype(np.float32), "depth", "m")
        yield View(image, f"{number}", camera), ViewDepth(z, z.usable.astype(np.float32))


def work(case: Case) -> None:
    """One process of `run`."""
    import torch

    from crispdepth.geometry.voxel_grid import VoxelGrid
    from crispdepth.io.kept import KeptArrays
    from crispdepth.io.meshes import write_mesh
    from crispdepth.models.presets import build_volume
    from crispdepth.ops.blocks import EDGE, unpack
    from crispdepth.ops.tiles import Tile
    from crispdepth.tasks.fuse import FuseConfig, surface
    from crispdepth.tasks.volume_fuse import gather, plan, regress, volume_config

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    network = build_volume(case.preset).eval().to(case.device)
    if case.device == "cuda":  # its kernels are loaded by the first call
        torch.nn.Conv3d(2, 2, 3).cuda()(torch.zeros(1, 2, 8, 8, 8, device="cuda"))
        torch.cuda.synchronize()
    config = volume_config(FuseConfig(voxel=case.voxel, max_memory=case.memory or 1e3), network)
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        kept = KeptArrays(folder)
        volume, gathered = gather(seen(case), network, config, kept, device=case.device)
        put_aside = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        between = time.perf_counter()
        tiles = plan(volume, network, config)
        if not case.memory:
            places = unpack(volume.store.keys) * EDGE
            low, high = places.amin(0).tolist(), (places.amax(0) + EDGE).tolist()
            sides = (end - first for first, end in zip(low, high, strict=True))
            grid = VoxelGrid(case.voxel, tuple(low), tuple(sides))
            halo = -(-network.fusion.halo // EDGE) * EDGE
            tiles = [Tile(volume.store.keys, grid.grown(halo))]
        regress(volume, gathered, tiles, network, kept)
        regressed, peak = time.perf_counter(), memory("VmHWM")
        on_gpu = torch.cuda.max_memory_allocated() if case.device == "cuda" else 0
        mesh = surface(volume, replace(config, min_weight=0))
        write_mesh(Path(folder) / "mesh.ply", mesh)
    report = {
        "first pass s": between - start,
        "second pass s": regressed - between,
        "seconds": time.perf_counter() - start,
        "CPU s": time.process_time() - cpu,
        "tiles": len(tiles),
        "active Mvoxel": len(volume.store) * EDGE**3 / 1e6,
        "computed Mvoxel": sum(len(tile.grid) for tile in tiles) / 1e6,
        "on disk MB": put_aside,
        "peak MB": peak,
        "above imports MB": peak - before,
        "Mvertex": len(mesh.vertices) / 1e6,
        "peak with mesh MB": memory("VmHWM"),
    }
    if case.device == "cuda":
        report["peak GPU MB"] = on_gpu / 1e6
    print(json.dumps({name: round(value, 3) for name, value in report.items()}))


def memory(name: str) -> float:
    """Megabytes of this process as Linux counts them: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def table(rows: list[dict[str, Any]]) -> str:
    measured = [name for name in rows[0] if name not in Case.__dataclass_fields__]
    columns = ["part", "views", "hall m", "allowed GB", *measured]

    def cell(row: dict[str, Any], name: str) -> str:
        if name == "hall m":
            return " x ".join(f"{side:.3g}" for side in row["hall"])
        if name == "allowed GB":
            return f"{row['memory']:g}" if row["memory"] else "dense"
        return f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name])

    return "\n".join(
        [
            f"Preset `{rows[0]['preset']}`, voxels of {rows[0]['voxel']:g} m, photos of "
            f"{SIZE[1]} x {SIZE[0]}. Computed voxels are those of all tiles with their halos; the "
            "peak is the resident memory of the process (VmHWM) until the mesh is extracted, and "
            "with that and its PLY.",
            "",
            "| " + " | ".join(columns) + " |",
            "|" + "---|" * len(columns),
            *("| " + " | ".join(cell(row, name) for name in columns) + " |" for row in rows),
            "",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        facts = json.loads(sys.argv[2])
        work(Case(**(facts | {"hall": tuple(facts["hall"])})))
    else:
        main(tyro.cli(Options))
