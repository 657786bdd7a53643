"""Models, environment maps and photos from folders, for scenes that are not all invented."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

import cv2
import numpy as np

from crispdepth.data.scenes3d.licences import licence_in
from crispdepth.data.scenes3d.shapes import Mesh, rotation
from crispdepth.data.scenes3d.sky import Panorama
from crispdepth.data.scenes3d.textures import TILE, Picture, Surface
from crispdepth.data.scenes3d.things import Thing
from crispdepth.io.images import read_image

MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply")
PANORAMA_SUFFIXES = (".hdr",)
PHOTO_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")

MAX_FACES = 60_000  # a model with more costs more time than all the rest of a scene
MAX_PARTS = 8  # surfaces of one model; the atlas is shared by all things
LARGE_M = 0.45  # what is longer stands on the floor, metres
EXTENT_M = (0.02, 3.0)  # what is shorter is in other units, what is longer is a room
PHOTO_SIDE = 1024  # pixels; larger photos are reduced
PANORAMA_SIZE = (512, 256)  # pixels (width, height)

_AREA = cv2.INTER_AREA

Asset = TypeVar("Asset")


class Model(NamedTuple):
    """A thing from a file, standing on the origin."""

    name: str
    thing: Thing


@dataclass(frozen=True, eq=False)
class Assets:
    """What scenes may use besides what they invent."""

    small: Sequence[Model] = ()  # to stand on tables
    large: Sequence[Model] = ()  # to stand on the floor
    panoramas: Sequence[Panorama] = ()
    photos: Sequence[Picture] = ()
    skipped: tuple[str, ...] = ()  # models that cannot be used, and why
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of each field, by its name
    licences: Mapping[str, str] = field(default_factory=dict)  # of each file

    def watched(self) -> "tuple[Assets, set[str]]":
        """The same assets, and the files of those that have been taken out of them so far."""
        taken: set[str] = set()

        def watch(kind: str, assets: Sequence[Asset]) -> Sequence[Asset]:
            return _Watched(assets, self.files.get(kind, ()), taken)

        watched = replace(
            self,
            small=watch("small", self.small),
            large=watch("large", self.large),
            panoramas=watch("panoramas", self.panoramas),
            photos=watch("photos", self.photos),
        )
        return watched, taken


@dataclass(frozen=True, eq=False)
class _Watched(Sequence[Asset], Generic[Asset]):
    """Assets that note the files of those that are taken out."""

    assets: Sequence[Asset]
    files: Sequence[str]
    taken: set[str]

    def __len__(self) -> int:
        return len(self.assets)

    @overload
    def __getitem__(self, index: int) -> Asset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Asset]: ...
    def __getitem__(self, index: int | slice) -> Asset | Sequence[Asset]:
        if isinstance(index, slice):
            return _Watched(self.assets[index], self.files[index], self.taken)
        self.taken.add(self.files[index])
        return self.assets[index]


def load_assets(models: Path | None, photos: Path | None) -> Assets:
    """Everything usable in two folders and the folders in them.

    Args:
        models: holds glTF, GLB, OBJ and PLY models in metres, and Radiance panoramas (.hdr).
        photos: holds JPEG, PNG and WebP photos, for textures.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is nothing usable in it, or a picture is broken.
    """
    loaded: dict[Path, Model] = {}
    skipped: list[str] = []
    panoramas: dict[Path, Panorama] = {}
    pictures: dict[Path, Picture] = {}
    if models:
        for path in _files(models, MODEL_SUFFIXES):
            try:
                loaded[path] = load_model(path)
            except Exception as error:  # trimesh raises anything when a file is broken
                skipped.append(f"{path} is left out: {error}")
        panoramas = {path: _read_panorama(path) for path in _files(models, PANORAMA_SUFFIXES)}
        if not loaded and not panoramas:
            raise ValueError(
                f"There is no usable model ({', '.join(MODEL_SUFFIXES)}) or panorama (.hdr) in "
                f"{models}. {' '.join(skipped)}"
            )
    if photos:
        pictures = {path: _read_photo(path) for path in _files(photos, PHOTO_SUFFIXES)}
        if not pictures:
            raise ValueError(f"There is no photo ({', '.join(PHOTO_SUFFIXES)}) in {photos}.")
    small = {path: model for path, model in loaded.items() if not _is_large(model)}
    large = {path: model for path, model in loaded.items() if _is_large(model)}
    kinds: dict[str, Sequence[Path]] = {
        "small": [*small],
        "large": [*large],
        "panoramas": [*panoramas],
        "photos": [*pictures],
    }
    licences = _licences([*loaded, *panoramas], models) | _licences([*pictures], photos)
    return Assets(
        small=tuple(small.values()),
        large=tuple(large.values()),
        panoramas=tuple(panoramas.values()),
        photos=tuple(pictures.values()),
        skipped=tuple(skipped),
        files={kind: tuple(licences[path][0] for path in paths) for kind, paths in kinds.items()},
        licences=dict(licences.values()),
    )


def _is_large(model: Model) -> bool:
    return bool(np.ptp(model.thing.bounds(), axis=0).max() > LARGE_M)


def _licences(paths: Sequence[Path], root: Path | None) -> dict[Path, tuple[str, str]]:
    """What each file is called in the descriptions of scenes, and its licence."""
    if root is None:
        return {}
    texts = {folder: licence_in(folder, root) for folder in {path.parent for path in paths}}
    return {
        path: (
            (Path(root.resolve().name) / path.relative_to(root)).as_posix(),
            texts[path.parent] or f"unknown: see {path.name}",
        )
        for path in paths
    }


def load_model(path: Path) -> Model:
    """A model as a thing: one part for each mesh in the file, with its colour texture.

    glTF is turned from y up to z up. Textures that repeat show one repetition for each triangle.

    Raises:
        ValueError: it has no triangles or too many, too many parts, or an unlikely size.
        Exception: whatever trimesh raises about a broken file.
    """
    import trimesh

    with warnings.catch_warnings():  # about materials that are not used here
        warnings.simplefilter("ignore")
        scene: Any = trimesh.load_scene(path)
        meshes = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
    faces = sum(len(part.faces) for part in meshes)
    if not 0 < faces <= MAX_FACES:
        raise ValueError(f"it has {faces} triangles; 1 to {MAX_FACES} can be used.")
    if len(meshes) > MAX_PARTS:
        raise ValueError(f"it has {len(meshes)} meshes; up to {MAX_PARTS} can be used.")
    thing = Thing(tuple((_mesh(part), _surface(part)) for part in meshes))
    if path.suffix.lower() in (".glb", ".gltf"):
        thing = thing.moved(rotation((1, 0, 0), np.pi / 2))
    low, high = thing.bounds()
    extent = float((high - low).max())
    if not EXTENT_M[0] <= extent <= EXTENT_M[1]:
        raise ValueError(f"it is {extent:.3g} m long; {EXTENT_M[0]} to {EXTENT_M[1]} can be used.")
    standing = np.eye(4)
    standing[:, 3] = *(-(low + high)[:2] / 2), -low[2], 1
    return Model(path.stem, thing.moved(standing))


def _mesh(part: Any) -> Mesh:
    """The triangles of a trimesh mesh; without texture coordinates it is textured from above."""
    vertices, faces = np.array(part.vertices, float), np.array(part.faces)
    uv = getattr(part.visual, "uv", None)
    if uv is None or len(uv) != len(vertices):
        flat = vertices[:, :2] - vertices[:, :2].min(axis=0)
        return Mesh(vertices, faces, flat / max(float(flat.max()), 1e-9))
    uv = np.asarray(uv, float) * [1, -1] + [0, 1]  # trimesh counts v upwards
    if uv.min() < 0 or uv.max() > 1:
        corners = uv[faces]
        corners -= np.floor(corners.min(axis=1, keepdims=True))
        vertices = vertices[faces].reshape(-1, 3)
        faces, uv = np.arange(len(vertices)).reshape(-1, 3), corners.reshape(-1, 2)
    return Mesh(vertices, faces, np.clip(uv, 0, 1))


def _surface(part: Any) -> Surface:
    material = getattr(part.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is not None:
        texture = cv2.resize(np.array(picture.convert("RGB")), (TILE, TILE), interpolation=_AREA)
    else:
        owner = material if material is not None else part.visual
        colour = np.asarray(owner.main_color, np.uint8)[:3]
        texture = np.broadcast_to(colour, (TILE, TILE, 3))
    return Surface(texture.astype(np.uint8), roughness=0.6, metallic=0.0)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; check the path.")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def _read_panorama(path: Path) -> Panorama:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.dtype != np.float32:
        raise ValueError(f"{path} is no Radiance picture; remove it or write it again.")
    return cv2.resize(picture[..., ::-1], PANORAMA_SIZE, interpolation=_AREA).astype(np.float32)


def _read_photo(path: Path) -> Picture:
    photo = read_image(path).rgb
    photo = photo if photo.dtype == np.uint8 else (photo >> 8).astype(np.uint8)
    scale = min(1.0, PHOTO_SIDE / max(photo.shape))
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=_AREA)
    return small.astype(np.uint8)
