"""Writing a rendered scene as a folder with a ``scene.json``."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.scenes3d.cameras import Camera
from crispdepth.data.scenes3d.shapes import Mesh
from crispdepth.io.atomic import TEMP_PREFIX
from crispdepth.io.images import write_image

DEPTH_UNIT_M = 0.0002  # a stored step; larger where 65535 of them do not reach the farthest point
IMAGE_PATTERN = "images/%04d.jpg"


class Frame(NamedTuple):
    """A photo with what its camera sees through the centre of each pixel."""

    camera: Camera
    photo: NDArray[np.uint8]  # (h, w, 3), sRGB
    depth: NDArray[np.float32]  # (h, w) z-depth, metres; 0 = no surface
    instances: NDArray[np.int32]  # (h, w), at most 255; 0 = none or structure
    mask: NDArray[np.uint8] | None = None  # (h, w), soft coverage of instance 1


def write_scene_folder(
    path: Path,
    frames: Sequence[Frame],
    mesh: Mesh,
    names: Mapping[int, str],
    facts: Mapping[str, object],
) -> None:
    """Write photos, depth, ids, masks if there are any, mesh and ``scene.json``.

    The folder appears when it is complete.

    Args:
        path: the folder; it does not exist.
        frames: of one size and one K, all with a mask or none.
        mesh: every surface, world axes (z up), metres.
        names: what each instance id is.
        facts: JSON values that are added to ``scene.json``.

    Raises:
        OSError: it cannot be written.
    """
    # One name for each scene: what a killed run left of it is replaced.
    partial = path.with_name(f"{TEMP_PREFIX}{path.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("images", "depth", "instances", "masks")[: 3 + (frames[0].mask is not None)]:
        (partial / part).mkdir(parents=True)
    seen = np.concatenate([frame.depth[frame.depth > 0] for frame in frames])
    near, far = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
    unit = max(DEPTH_UNIT_M, far / 65535)
    for index, frame in enumerate(frames):
        write_image(partial / (IMAGE_PATTERN % index), frame.photo)
        counts = np.rint(frame.depth / unit).astype(np.uint16)
        write_image(partial / "depth" / f"{index:04d}.png", counts)
        ids = frame.instances.astype(np.uint8)
        write_image(partial / "instances" / f"{index:04d}.png", ids)
        if frame.mask is not None:
            write_image(partial / "masks" / f"{index:04d}.png", frame.mask)
    _write_mesh(partial / "mesh.ply", mesh)
    camera = frames[0].camera
    height, width = camera.size
    content = {
        "name": path.name,
        "K": camera.K.tolist(),
        "size": [width, height],
        "n_frames": len(frames),
        "image_pattern": IMAGE_PATTERN,
        "axes": "OpenCV: x right, y down, z forward; the centre of the top-left pixel is "
        "(0.5, 0.5); world is metric, z up",
        "cam_from_world": [frame.camera.cam_from_world.tolist() for frame in frames],
        "depth_unit_m": unit,
        "depth_kind": "z (along the optical axis) at the pixel centre; 0 = no surface",
        "near": near,
        "far": far,
        "instances": {str(number): name for number, name in names.items()},
        "mesh": "mesh.ply",
        "fov_x_deg": float(np.degrees(2 * np.arctan(width / 2 / camera.K[0, 0]))),
        **facts,
    }
    (partial / "scene.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _write_mesh(path: Path, mesh: Mesh) -> None:
    import trimesh

    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path)
