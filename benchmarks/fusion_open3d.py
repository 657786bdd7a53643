"""Open3D's TSDF on the frames that fusion.py puts down; runs in an environment of its own.

    python fusion_open3d.py FRAMES VOXEL TRUNCATION MESH

Needs only NumPy and open3d-cpu 0.19.0. Prints seconds and memory as JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import open3d as o3d  # type: ignore[import-not-found, unused-ignore]

BLOCK = 16  # voxels, Open3D's default


def memory(name: str) -> float:
    """Megabytes of this process as Linux counts them: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main(frames: Path, voxel: float, truncation: float, mesh: Path) -> None:
    device, core = o3d.core.Device("CPU:0"), o3d.core
    cameras = np.load(frames / "cameras.npz")
    volume = o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(core.float32, core.float32, core.float32),
        attr_channels=((1), (1), (3)),
        voxel_size=voxel,
        block_resolution=BLOCK,
        block_count=1000,
        device=device,
    )
    before, seconds, cpu = memory("VmRSS"), 0.0, time.process_time()
    for index, (K, pose) in enumerate(zip(cameras["K"], cameras["pose"], strict=True)):
        depth, colour = np.load(frames / f"{index}d.npy"), np.load(frames / f"{index}c.npy")
        start = time.perf_counter()
        image = o3d.t.geometry.Image(core.Tensor(depth))
        photo = o3d.t.geometry.Image(core.Tensor(colour.astype(np.float32) / 255))
        # Open3D has pixel centres at whole numbers.
        shifted = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        intrinsic, extrinsic = core.Tensor(shifted), core.Tensor(pose)
        far, width = float(depth.max()) + 1, truncation / voxel
        blocks = volume.compute_unique_block_coordinates(
            image, intrinsic, extrinsic, 1.0, far, width
        )
        volume.integrate(blocks, image, photo, intrinsic, extrinsic, 1.0, far, width)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    surface = volume.extract_triangle_mesh(weight_threshold=0.5).to_legacy()
    extraction, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory("VmHWM")
    o3d.io.write_triangle_mesh(str(mesh), surface)
    report = {"seconds": seconds, "cpu": cpu, "extraction": extraction, "peak_mb": peak - before}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
