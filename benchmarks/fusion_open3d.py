"""Open3D's two TSDFs on the frames that fusion.py puts down; runs in an environment of its own.

    python fusion_open3d.py FRAMES VOXEL TRUNCATION MESH {scalable,grid}

``scalable`` is ScalableTSDFVolume, ``grid`` the newer VoxelBlockGrid, which looks at every fourth
pixel only to find its blocks. Needs NumPy and open3d-cpu 0.19.0. Prints seconds and memory as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d  # type: ignore[import-not-found, unused-ignore]

BLOCK = 16  # voxels, Open3D's default in both
FAR = 1e3  # metres


class Scalable:
    def __init__(self, voxel: float, truncation: float) -> None:
        kind = o3d.pipelines.integration
        self.volume = kind.ScalableTSDFVolume(voxel, truncation, kind.TSDFVolumeColorType.RGB8)

    def integrate(self, depth: Any, colour: Any, K: Any, pose: Any) -> None:
        height, width = depth.shape
        frame = o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(colour),
            o3d.geometry.Image(depth),
            depth_scale=1.0,
            depth_trunc=FAR,
            convert_rgb_to_intensity=False,
        )
        intrinsic = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        self.volume.integrate(
            frame, o3d.camera.PinholeCameraIntrinsic(width, height, *intrinsic), pose
        )

    def mesh(self) -> Any:
        return self.volume.extract_triangle_mesh()


class Grid:
    def __init__(self, voxel: float, truncation: float) -> None:
        core = o3d.core
        self.width = truncation / voxel
        self.volume = o3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(core.float32, core.float32, core.float32),
            attr_channels=((1), (1), (3)),
            voxel_size=voxel,
            block_resolution=BLOCK,
            block_count=1000,
            device=core.Device("CPU:0"),
        )

    def integrate(self, depth: Any, colour: Any, K: Any, pose: Any) -> None:
        tensor, image = o3d.core.Tensor, o3d.t.geometry.Image
        depth, photo = image(tensor(depth)), image(tensor(colour.astype(np.float32) / 255))
        intrinsic, extrinsic = tensor(K), tensor(pose)
        limits = (1.0, FAR, self.width)
        blocks = self.volume.compute_unique_block_coordinates(depth, intrinsic, extrinsic, *limits)
        self.volume.integrate(blocks, depth, photo, intrinsic, extrinsic, *limits)

    def mesh(self) -> Any:
        return self.volume.extract_triangle_mesh(weight_threshold=0.5).to_legacy()


def memory(name: str) -> float:
    """Megabytes of this process as Linux counts them: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main(frames: Path, voxel: float, truncation: float, mesh: Path, kind: str) -> None:
    cameras = np.load(frames / "cameras.npz")
    before, seconds = memory("VmRSS"), 0.0
    volume = (Scalable if kind == "scalable" else Grid)(voxel, truncation)
    cpu = time.process_time()
    for index, (K, pose) in enumerate(zip(cameras["K"], cameras["pose"], strict=True)):
        depth, colour = np.load(frames / f"{index}d.npy"), np.load(frames / f"{index}c.npy")
        start = time.perf_counter()
        # Open3D has pixel centres at whole numbers.
        volume.integrate(depth, colour, K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]), pose)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    surface = volume.mesh()
    extraction, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory("VmHWM")
    o3d.io.write_triangle_mesh(str(mesh), surface)
    report = {"seconds": seconds, "extraction": extraction, "cpu": cpu}
    print(json.dumps(report | {"peak_mb": peak, "growth_mb": peak - before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
