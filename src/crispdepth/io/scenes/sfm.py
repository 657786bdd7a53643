"""Cameras of photos that have none: structure from motion with COLMAP (extra ``sfm``)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import make_folder, write_bytes
from crispdepth.io.images import read_header, read_image, write_image
from crispdepth.io.masks import read_masks
from crispdepth.io.match import Matches, match_masks, without_companions
from crispdepth.io.scenes.read import NO_MASKS, PHOTO_SUFFIXES
from crispdepth.ops.images import eight_bit
from crispdepth.ops.masks import resize_masks
from crispdepth.types import MaskRole

_COMPANIONS = ("depth", "depths", "masks", "masks_2")
_FEW = 3  # photos, below which there is no structure to be had

LensModel = Literal[
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"
]


@dataclass(frozen=True)
class SfmConfig:
    """How cameras are found for photos that have none."""

    # COLMAP's model of the lens; more parameters need more photos.
    lens: LensModel = "SIMPLE_RADIAL"

    # Every photo has a camera of its own; otherwise those of one size share one.
    single_cameras: bool = False

    # exhaustive: all pairs of photos; sequential: neighbours in the order of the names.
    matching: Literal["exhaustive", "sequential"] = "exhaustive"

    # Take features only from inside the object masks: for an object that was turned before a
    # camera at rest. Where masks say what to ignore, features there are never taken.
    only_object: bool = False

    # Of the random choices.
    seed: int = 0


class FoundCameras(NamedTuple):
    """What structure from motion made of the photos."""

    model: Path  # folder of the COLMAP model
    photos: Path  # folder that the names in the model are relative to
    notes: tuple[str, ...]


def find_cameras(
    photos: str | Path,
    work: str | Path,
    *,
    masks: str | Path | None = None,
    mask_role: MaskRole = "object",
    invert_masks: bool = False,
    config: SfmConfig = SfmConfig(),
) -> FoundCameras:
    """Find the cameras of the photos in a folder; `read_scene` reads the model.

    Args:
        photos: the folder, searched with its sub-folders; or that of a project with ``images``.
        work: a folder for COLMAP's database, the masks it is given, and the model.
        masks, mask_role, invert_masks: as for `read_scene`.
        config: how.

    Raises:
        ImportError: pycolmap is not installed.
        OSError: a file cannot be read or written.
        ValueError: there are fewer than three photos, or no two of them could be connected.
    """
    colmap = _pycolmap()
    work = Path(work)
    root, files = _photos(Path(photos))
    headers = [read_header(file) for file in files]
    make_folder(work)
    mask_files = None
    if mask_role == "ignore" or config.only_object:
        mask_files = _write_masks(root, files, work / "masks", masks, mask_role, invert_masks)
    names = [file.relative_to(root).as_posix() for file in files]
    if any(header.orientation != 1 for header in headers):
        root = _write_upright(root, files, work / "photos")
    database = work / "database.db"
    database.unlink(missing_ok=True)
    (work / "sparse").mkdir(exist_ok=True)
    one_size = len({header.size for header in headers}) == 1
    mode = colmap.CameraMode.SINGLE if one_size else colmap.CameraMode.AUTO
    reader = colmap.ImageReaderOptions()
    reader.camera_model = config.lens
    if mask_files is not None:
        reader.mask_path = str(mask_files)
    pipeline = colmap.IncrementalPipelineOptions()
    pipeline.random_seed = config.seed
    with _quiet(colmap):
        colmap.set_random_seed(config.seed)
        colmap.extract_features(
            database,
            root,
            image_names=names,
            camera_mode=colmap.CameraMode.PER_IMAGE if config.single_cameras else mode,
            reader_options=reader,
        )
        if config.matching == "sequential":
            colmap.match_sequential(database)
        else:
            colmap.match_exhaustive(database)
        models: dict[int, Any] = colmap.incremental_mapping(
            database, root, work / "sparse", options=pipeline
        )
    if not models:
        raise ValueError(
            f"The cameras of the {len(files)} photos in {photos} could not be found: too few of "
            "them overlap, or they show too little texture. Take more photos, each sharing most "
            "of its picture with the next."
        )
    best = max(models, key=lambda number: int(models[number].num_reg_images()))
    found, error = models[best], float(models[best].compute_mean_reprojection_error())
    notes = [
        f"structure from motion placed {found.num_reg_images()} of {len(files)} photos; "
        f"reprojection error {error:.2f} px"
    ]
    if mask_files is not None:
        notes.append("features were taken only where the masks allow it")
    return FoundCameras(work / "sparse" / str(best), root, tuple(notes))


def _pycolmap() -> ModuleType:
    try:
        import pycolmap  # after NumPy and Pillow: some versions corrupt the heap if first
    except ImportError as error:
        raise ImportError(
            'Finding cameras needs pycolmap: pip install "crispdepth[sfm]"'
        ) from error
    module: ModuleType = pycolmap
    return module


@contextmanager
def _quiet(colmap: ModuleType) -> Iterator[None]:
    """Without COLMAP's log, except errors."""
    before = colmap.logging.minloglevel
    colmap.logging.minloglevel = 2
    try:
        yield
    finally:
        colmap.logging.minloglevel = before


def _photos(folder: Path) -> tuple[Path, list[Path]]:
    """The folder that has the photos, and the photos."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of photos {folder}; check the path.")
    images = folder / "images"
    own = any(path.suffix.lower() in PHOTO_SUFFIXES for path in folder.iterdir())
    root = images if images.is_dir() and not own else folder
    files = []
    for place, subfolders, names in os.walk(root):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and name not in _COMPANIONS
        )
        files += [
            Path(place, name)
            for name in sorted(names)
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and not name.startswith(".")
        ]
    files = without_companions(files)
    if len(files) < _FEW:
        raise ValueError(
            f"{root} has {len(files)} photos ({', '.join(sorted(PHOTO_SUFFIXES))}); finding "
            f"cameras needs {_FEW} or more."
        )
    return root, files


def _match(root: Path, files: Sequence[Path], masks: str | Path | None) -> Matches:
    if masks is not None and str(masks) == NO_MASKS:
        return Matches({}, {})
    try:
        return match_masks(files, root, None if masks is None else Path(masks))
    except FileNotFoundError:
        if masks is not None:
            raise
        return Matches({}, {})


def _write_masks(
    root: Path,
    files: Sequence[Path],
    folder: Path,
    masks: str | Path | None,
    role: MaskRole,
    invert: bool,
) -> Path | None:
    """Masks as COLMAP wants them, black where no feature is to be found; None without any."""
    matches, written = _match(root, files, masks), False
    for file in files:
        photo = read_image(file)
        size = photo.rgb.shape[0], photo.rgb.shape[1]
        allowed: NDArray[np.bool_] | None = None
        if file in matches.files:
            white = matches.rules[file].white
            found = read_masks(matches.files[file], role=role, white=white, invert=invert).masks
            found = resize_masks(found, size)
            inside = np.zeros(size, bool)
            for index in range(len(found)):
                inside |= found[index] >= 0.5
            allowed = inside if role == "object" else ~inside
        elif photo.alpha is not None and masks is None:
            allowed = photo.alpha >= 0.5
        if allowed is not None:
            path = folder / f"{file.relative_to(root).as_posix()}.png"
            make_folder(path.parent)
            write_image(path, allowed.astype(np.uint8) * np.uint8(255))
            written = True
    return folder if written else None


def _write_upright(root: Path, files: Sequence[Path], folder: Path) -> Path:
    """Copies of the photos in which those that EXIF turns are turned: COLMAP leaves them lying."""
    for file in files:
        path = folder / file.relative_to(root)
        make_folder(path.parent)
        if read_header(file).orientation == 1:
            write_bytes(path, file.read_bytes())
        else:
            write_image(path, eight_bit(read_image(file).rgb))
    return folder
