"""Path-traced photos of a scene with exact z-depth and instance ids (Mitsuba, extra ``synth``)."""

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.scenes3d.cameras import Camera
from crispdepth.data.scenes3d.scene import Lamp, Scene
from crispdepth.data.scenes3d.shapes import Array, Mesh, rotation

MAX_DEPTH = 3  # segments of a light path: one bounce of indirect light
GUIDE_SAMPLES = 4  # per pixel, of the pictures that guide the denoiser
COVERAGE_RAYS = 16  # a side, through each pixel of a border
COVERAGE_PIXELS = 2048  # of a border at once, to bound memory
MIN_LLVM = 17  # Dr.Jit needs intrinsics that older ones do not know
LLVM_FOLDERS = (
    "usr/lib",
    "usr/lib64",
    "usr/lib/*-linux-gnu",
    "usr/lib*/llvm*/lib*",
    "usr/local/lib",
    "usr/local/opt/llvm*/lib",
    "opt/homebrew/opt/llvm*/lib",
)

Variant = Literal["llvm_ad_rgb", "scalar_rgb"]


class Traced(NamedTuple):
    """The one surface point seen through the centre of each pixel."""

    depth: NDArray[np.float32]  # (h, w) z-depth, metres; 0 = nothing is hit
    instances: NDArray[np.int32]  # (h, w); 0 = structure or nothing


def choose_variant() -> Variant:
    """The fastest variant of Mitsuba that runs here.

    ``llvm_ad_rgb`` where a libLLVM of version 17 or newer lies in a usual folder or is named by
    the environment variable ``DRJIT_LIBLLVM_PATH``, otherwise ``scalar_rgb``, which needs nothing
    and is several times slower.

    Raises:
        ImportError: the extra is not installed.
    """
    for name in ("mitsuba", "pyoidn", "trimesh"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f'{name} is not installed; pip install "crispdepth[synth]" brings it.'
            )
    found = os.environ.get("DRJIT_LIBLLVM_PATH") or _find_llvm()
    return "llvm_ad_rgb" if found else "scalar_rgb"


def use_mitsuba(variant: Variant, threads: int) -> None:
    """Prepare this process for `Renderer`: the variant and the number of threads.

    It sets state of the whole process, environment variables included.
    """
    os.environ.setdefault("OIDN_NUM_THREADS", str(threads))
    os.environ.setdefault("OIDN_SET_AFFINITY", "0")  # else all processes share the first core
    library = _find_llvm()
    if library:
        os.environ.setdefault("DRJIT_LIBLLVM_PATH", library)
    import drjit as dr
    import mitsuba as mi

    mi.set_variant(variant)
    mi.set_log_level(mi.LogLevel.Error)
    dr.set_thread_count(threads)


def _find_llvm() -> str | None:
    """The newest libLLVM that Dr.Jit can use: an older one ends the process."""
    found = {}
    for folder in LLVM_FOLDERS:
        for path in Path("/").glob(f"{folder}/libLLVM*"):
            match = re.fullmatch(r"libLLVM(?:-|\.so\.)(\d+)(?:\.\d+)*(?:\.so|\.dylib)?", path.name)
            if match and int(match[1]) >= MIN_LLVM:
                found[int(match[1])] = str(path)
    return found[max(found)] if found else None


class Renderer:
    """A scene in Mitsuba, ready for any number of views."""

    def __init__(self, scene: Scene) -> None:
        """Build it; `use_mitsuba` comes first."""
        import mitsuba as mi

        self._mi = mi
        _, self._ids = scene.whole()
        counts = [len(scene.mesh.faces), *(len(lamp.mesh.faces) for lamp in scene.lamps)]
        first_faces = np.cumsum([0, *counts[:-1]])
        # Robust: no ray slips through where two triangles meet.
        parts: dict[str, Any] = {"type": "scene", "embree_use_robust_intersections": True}
        parts["sky"] = _sky(mi, scene.sky)
        parts["things"] = _mesh(mi, "things", scene.mesh, bsdf=_material(mi, scene))
        parts |= {f"lamp{k}": _lamp(mi, f"lamp{k}", lamp) for k, lamp in enumerate(scene.lamps)}
        # Optimising would merge the shapes, and with them the numbers of their triangles.
        self._scene = mi.load_dict(parts, optimize=False)
        self._path = mi.load_dict({"type": "path", "max_depth": MAX_DEPTH})
        self._guides = mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})
        shapes = self._scene.shapes()
        self.variant = str(mi.variant())
        self._vectorised = self.variant == "llvm_ad_rgb"
        if self._vectorised:
            _forget_literals(mi, self._scene)
            numbers = [_number(mi, shape) for shape in shapes]
        else:
            numbers = [shape.id() for shape in shapes]
        self._first_face = dict(zip(numbers, first_faces.tolist(), strict=True))

    def trace(self, cameras: Sequence[Camera]) -> list[Traced]:
        """Depth and ids of several views of one size, exactly at the pixels' centres."""
        eyes, ways = zip(*(camera.rays() for camera in cameras), strict=True)
        origins = np.repeat(np.array(eyes), [len(way) for way in ways], axis=0)
        distance, ids = self._cast(origins, np.concatenate(ways))
        traced, start = [], 0
        for camera, way in zip(cameras, ways, strict=True):
            part = slice(start, start + len(way))
            cosine = way @ camera.cam_from_world[2, :3]
            depth = np.where(np.isfinite(distance[part]), distance[part] * cosine, 0)
            traced.append(
                Traced(
                    depth.astype(np.float32).reshape(camera.size),
                    ids[part].reshape(camera.size),
                )
            )
            start += len(way)
        return traced

    def coverage(
        self, camera: Camera, instances: NDArray[np.int32], instance: int
    ) -> NDArray[np.uint8]:
        """How much of each pixel (h, w) an instance covers, 255 for all of it.

        Pixels beside one of the other side are counted out by `COVERAGE_RAYS` squared rays. What
        is so thin that it is seen through no pixel's centre is missed.

        Args:
            camera: of the view.
            instances: (h, w), what `trace` sees through the pixels' centres.
            instance: its id.
        """
        inside = (instances == instance).astype(np.uint8)
        border = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        rows, columns = np.nonzero(border)
        steps = (np.arange(COVERAGE_RAYS) + 0.5) / COVERAGE_RAYS
        down, across = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
        mask: NDArray[np.uint8] = 255 * inside
        for start in range(0, len(rows), COVERAGE_PIXELS):
            y, x = (at[start : start + COVERAGE_PIXELS, None] for at in (rows, columns))
            eye, ways = camera.rays_through((x + across).ravel(), (y + down).ravel())
            _, ids = self._cast(np.broadcast_to(eye, ways.shape), ways)
            share = (ids == instance).reshape(len(y), -1).mean(axis=1)
            mask[y[:, 0], x[:, 0]] = np.rint(255 * share)
        return mask

    def _cast(self, origins: Array, ways: Array) -> tuple[Array, NDArray[np.int32]]:
        """Distances (n,), inf without a hit, and instance ids (n,) along rays (n, 3)."""
        hits = self._hits(origins, ways) if self._vectorised else self._hits_by_one(origins, ways)
        distance, face = hits
        return distance, np.where(np.isfinite(distance), self._ids[face], 0).astype(np.int32)

    def _hits(self, origins: Array, ways: Array) -> tuple[Array, NDArray[np.int64]]:
        """Distances, inf without a hit, and which of all triangles is hit, (n,) each."""
        import drjit as dr

        mi = self._mi
        start, way = (np.ascontiguousarray(array.T, np.float32) for array in (origins, ways))
        hit = self._scene.ray_intersect_preliminary(mi.Ray3f(mi.Point3f(start), mi.Vector3f(way)))
        shape = np.array(dr.reinterpret_array(mi.UInt32, hit.shape))
        first = np.zeros(max(*self._first_face, int(shape.max())) + 1, np.int64)
        first[list(self._first_face)] = list(self._first_face.values())
        valid = np.array(hit.is_valid())
        face = np.where(valid, first[shape] + np.array(hit.prim_index), 0)
        return np.where(valid, np.array(hit.t, np.float64), np.inf), face

    def _hits_by_one(self, origins: Array, ways: Array) -> tuple[Array, NDArray[np.int64]]:
        """The same for the scalar variant, which knows no arrays of rays."""
        mi = self._mi
        distance, face = np.full(len(ways), np.inf), np.zeros(len(ways), np.int64)
        for index, (origin, way) in enumerate(zip(origins.tolist(), ways.tolist(), strict=True)):
            hit = self._scene.ray_intersect_preliminary(mi.Ray3f(origin, way))
            if hit.is_valid():
                distance[index] = hit.t
                face[index] = self._first_face[hit.shape.id()] + hit.prim_index
        return distance, face

    def photograph(self, camera: Camera, samples: int, seed: int) -> NDArray[np.float32]:
        """Denoised linear radiance (h, w, 3)."""
        import pyoidn

        mi, sensor = self._mi, _sensor(self._mi, camera)
        noisy = mi.render(self._scene, sensor=sensor, integrator=self._path, spp=samples, seed=seed)
        guides = np.array(
            mi.render(
                self._scene, sensor=sensor, integrator=self._guides, spp=GUIDE_SAMPLES, seed=seed
            )
        )
        albedo, normal = (np.ascontiguousarray(guides[..., k : k + 3]) for k in (0, 3))
        result: NDArray[np.float32] = pyoidn.denoise(
            np.ascontiguousarray(np.array(noisy)[..., :3]),
            np.clip(np.nan_to_num(albedo), 0, 1),
            np.clip(np.nan_to_num(normal), -1, 1),
            hdr=True,
        )
        return result


def _mesh(mi: Any, name: str, mesh: Mesh, **properties: Any) -> Any:
    props = mi.Properties()
    for key, value in properties.items():
        props[key] = value
    shape = mi.Mesh(
        name,
        vertex_count=len(mesh.vertices),
        face_count=len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=props,
    )
    params = mi.traverse(shape)
    params["vertex_positions"] = mesh.vertices.astype(np.float32).ravel()
    params["vertex_texcoords"] = mesh.uv.astype(np.float32).ravel()
    params["faces"] = mesh.faces.astype(np.uint32).ravel()
    params.update()
    return shape


def _lamp(mi: Any, name: str, lamp: Lamp) -> Any:
    edges = lamp.mesh.vertices[lamp.mesh.faces[:, 1:]] - lamp.mesh.vertices[lamp.mesh.faces[:, :1]]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum() / 2
    light = {
        "type": "area",
        "radiance": {"type": "rgb", "value": lamp.radiance.tolist()},
        # How often it is sampled: strong lamps more than weak ones, weak ones not too seldom.
        "sampling_weight": float(np.sqrt(area * max(lamp.radiance))),
    }
    dark = mi.load_dict({"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}})
    return _mesh(mi, name, lamp.mesh, bsdf=dark, emitter=mi.load_dict(light))


def _forget_literals(mi: Any, scene: Any) -> None:
    """Keep constants out of the compiled code, so that one compilation serves all scenes."""
    import drjit as dr

    params: Any = mi.traverse(scene)
    for name, _ in params:
        if name.endswith((".radiance.value", ".sampling_weight")):
            dr.make_opaque(params[name])


def _number(mi: Any, shape: Any) -> int:
    """What Dr.Jit calls a shape in its arrays of pointers."""
    import drjit as dr

    numbers: Any = dr.reinterpret_array(mi.UInt32, mi.ShapePtr(shape))
    return int(numbers[0])


def _material(mi: Any, scene: Scene) -> Any:
    """One material for everything, whose texture is the atlas."""

    def tiles(values: NDArray[np.float32]) -> dict[str, Any]:
        bitmap = mi.Bitmap(np.ascontiguousarray(values[..., None]))
        return {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": "nearest"}

    colour = {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(scene.atlas.colour))}
    return mi.load_dict(
        {
            "type": "twosided",
            "material": {
                "type": "principled",
                "base_color": colour,
                "roughness": tiles(scene.atlas.roughness),
                "metallic": tiles(scene.atlas.metallic),
                "specular": 0.5,
            },
        }
    )


def _sky(mi: Any, radiance: NDArray[np.float32]) -> dict[str, Any]:
    upright = mi.ScalarTransform4f(rotation((1, 0, 0), np.pi / 2))
    return {"type": "envmap", "bitmap": mi.Bitmap(radiance.copy()), "to_world": upright}


def _sensor(mi: Any, camera: Camera) -> Any:
    height, width = camera.size
    # Mitsuba's cameras have x to the left and y up.
    pose = np.linalg.inv(camera.cam_from_world) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(width / 2 / camera.K[0, 0]))),
            "fov_axis": "x",
            "near_clip": 0.01,
            "far_clip": 1000.0,
            "to_world": mi.ScalarTransform4f(pose),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},  # the denoiser expects independent pixels
                "pixel_format": "rgb",
            },
            "sampler": {"type": "independent"},
        }
    )
