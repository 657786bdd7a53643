"""Scene folders of any known format as one lazily read `Scene`."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.images import PhotoHeader, read_header
from crispdepth.io.masks import read_masks
from crispdepth.io.match import Matches, match_depths, match_masks
from crispdepth.io.meshes import read_mesh
from crispdepth.io.naming import Rule, some
from crispdepth.io.scenes.formats import KINDS, Format, find_format
from crispdepth.io.scenes.lens import Lens, pinhole_camera
from crispdepth.io.scenes.poses import make_rigid
from crispdepth.io.scenes.source import DepthFile, NoPhotoError, Source, SourceView
from crispdepth.io.scenes.views import ReadView, ViewFiles
from crispdepth.ops.resample import same_aspect, size_within
from crispdepth.types import MaskRole, Scene, Size

ROUNDING = 1e-3
"""A scale in a rotation that is nearer to 1 comes from rounding and is not worth a word."""

NO_MASKS = "none"
"""As ``masks``: leave masks out."""


@dataclass(frozen=True)
class OpenScene:
    """A scene, and what its files are."""

    scene: Scene
    format: str
    files: tuple[ViewFiles, ...]

    @property
    def untouched(self) -> dict[str, Path]:
        """The photo files by the names of their views, where a file shows exactly the view."""
        return {
            view.name: view.photo
            for view in self.files
            if view.lens.is_pinhole
            and view.camera.size == view.lens.size
            and read_header(view.photo).orientation == 1
        }


def read_scene(
    path: str | Path,
    *,
    format: Format = "auto",
    photos: str | Path | None = None,
    depths: str | Path | None = None,
    masks: str | Path | None = None,
    mask_role: MaskRole = "object",
    invert_masks: bool = False,
    longest: int | None = None,
) -> Scene:
    """The scene in a folder, or in its ``transforms.json`` or ``scene.json``; pixels stay on disk.

    Cameras are checked and photos' headers are looked at now; photos, masks and depth are read
    when a view is asked for. Axes of cameras become OpenCV's, the world stays the source's, in
    metres where the source states a scale (`Scene.source_from_world` undoes that). Distortion
    is removed: photo and masks are resampled together, depth takes the nearest measurement.

    Args:
        path: the folder or file.
        format: how to read it.
        photos: a folder to take the photos from instead of the source's own; names stay.
        depths: a folder with a depth file for each photo, named as for `crispdepth.io.match`,
            instead of the source's own. What each holds is what its header or sidecar says; what
            is not depth in the unit of the scene, such as the relative inverse depth of a
            monocular network, is aligned to the sparse points of the scene.
        masks: a folder of masks or one mask for all; None: those that the source names, else
            those found in or beside the photos, else their alpha channels; "none": no masks.
        mask_role: what masks mark: the object, or what to ignore.
        invert_masks: mask files hold the opposite of what they should.
        longest: photos are made smaller, by area average, until no side has more pixels. None:
            they keep their size.

    Raises:
        OSError: something does not exist or cannot be read.
        ValueError: no format fits, a file is damaged, or parts do not fit each other.
    """
    return open_scene(
        path,
        format=format,
        photos=photos,
        depths=depths,
        masks=masks,
        mask_role=mask_role,
        invert_masks=invert_masks,
        longest=longest,
    ).scene


def open_scene(
    path: str | Path,
    *,
    format: Format = "auto",
    photos: str | Path | None = None,
    depths: str | Path | None = None,
    masks: str | Path | None = None,
    mask_role: MaskRole = "object",
    invert_masks: bool = False,
    longest: int | None = None,
) -> OpenScene:
    """`read_scene`, with the format that was found and the files of the views."""
    if longest is not None and longest < 1:
        raise ValueError(f"longest is a number of pixels, 1 or more, got {longest}.")
    if mask_role not in get_args(MaskRole):
        raise ValueError(f"mask_role must be one of {get_args(MaskRole)}, got {mask_role!r}.")
    root = None if photos is None else Path(photos)
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"There is no folder of photos {photos}; check the path.")
    name, place, notes = find_format(Path(path), format)
    source = KINDS[name].read(place, root)
    notes += list(source.notes)
    if root is not None and source.photo_root != root:
        source = _rerooted(source, root)
    source = replace(source, views=_there(source, notes))
    headers = [read_header(view.photo) for view in source.views]
    names = tuple(_name(view.photo, source.photo_root) for view in source.views)
    poses, kept = _rigid_poses(source.views, names, notes)
    source = replace(source, views=tuple(source.views[i] for i in kept))
    headers, names = [headers[i] for i in kept], tuple(names[i] for i in kept)
    lenses = _fitting(source.views, headers, notes)
    files = [
        _view_files(view, view_name, lens, pose, longest)
        for view, view_name, lens, pose in zip(source.views, names, lenses, poses, strict=True)
    ]
    notes += _lens_notes(files)
    if depths is not None:
        files = _with_depths(files, source, Path(depths), notes)
    files = _with_masks(files, headers, source, masks, mask_role, invert_masks, notes)
    scale = source.source_scale
    scene = Scene(
        name=source.name,
        names=names,
        cameras=tuple(view.camera for view in files),
        read=ReadView(tuple(files), mask_role, invert_masks, source.unit, source.points),
        unit=source.unit,
        bounds=source.bounds,
        points=source.points,
        mesh=None if source.mesh is None else partial(read_mesh, source.mesh),
        source_from_world=np.diag([scale, scale, scale, 1.0]),
        notes=tuple(notes),
    )
    return OpenScene(scene, name, tuple(files))


def _view_files(
    view: SourceView, name: str, lens: Lens, pose: NDArray[np.float64], longest: int | None
) -> ViewFiles:
    """A view without its masks, with its cameras worked out."""
    try:
        undistorted = pinhole_camera(lens, pose)
    except ValueError as error:
        raise ValueError(f"{view.photo}: {error}") from error
    size = undistorted.size if longest is None else size_within(longest, undistorted.size)
    depth = view.depth if view.depth and view.depth.path.is_file() else None
    camera = undistorted.resized(size)
    return ViewFiles(name, view.photo, lens, undistorted, camera, depth=depth)


def _rerooted(source: Source, root: Path) -> Source:
    """The source with its photos, by their relative names, taken from another folder."""
    views = tuple(
        replace(view, photo=root / _name(view.photo, source.photo_root)) for view in source.views
    )
    return replace(source, photo_root=root, views=views)


def _there(source: Source, notes: list[str]) -> tuple[SourceView, ...]:
    """The views whose photos are there."""
    there = tuple(view for view in source.views if view.photo.is_file())
    missing = [str(view.photo) for view in source.views if not view.photo.is_file()]
    if not there:
        raise NoPhotoError(
            f"None of the {len(missing)} photos of {source.name} is there, the first would be "
            f"{missing[0]}. Give their folder (--photos)."
        )
    if missing:
        notes.append(
            f"{len(missing)} of {len(source.views)} photos are missing and left out: "
            f"{some(missing)}"
        )
    if extra := _unposed(there):
        notes.append(f"{len(extra)} photos have no pose and are left out: {some(extra)}")
    return there


def _unposed(views: Sequence[SourceView]) -> list[str]:
    """Photos that lie beside those of the views, but not what is named after one of these."""
    used = {view.photo for view in views} | {view.depth.path for view in views if view.depth}
    suffixes = {view.photo.suffix.lower() for view in views}
    stems = {view.photo.stem for view in views}
    return sorted(
        path.name
        for folder in {view.photo.parent for view in views}
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes
        and path not in used
        and stems.isdisjoint(path.name[: cut.start()] for cut in re.finditer(r"[._]", path.name))
    )


def _name(photo: Path, root: Path) -> str:
    return Path(os.path.relpath(photo, root)).as_posix()


def _rigid_poses(
    views: Sequence[SourceView], names: Sequence[str], notes: list[str]
) -> tuple[list[NDArray[np.float64]], list[int]]:
    """The poses that are finite, made rigid, and which views they are of."""
    kept = [i for i, view in enumerate(views) if np.isfinite(view.cam_from_world).all()]
    lost = [names[i] for i in range(len(views)) if i not in set(kept)]
    if not kept:
        raise ValueError(f"None of the {len(views)} poses is finite: tracking was lost in all.")
    if lost:
        notes.append(
            f"{len(lost)} of {len(views)} views have no finite pose (tracking was lost) and are "
            f"left out: {some(lost)}"
        )
    rigid = [make_rigid(views[i].cam_from_world, names[i]) for i in kept]
    scales = [pose.scale for pose in rigid if abs(pose.scale - 1) > ROUNDING]
    if scales:
        notes.append(
            f"the rotations of {len(scales)} poses were scaled by {min(scales):.6g} to "
            f"{max(scales):.6g}; the scale was taken out"
        )
    return [pose.cam_from_world for pose in rigid], kept


def _fitting(
    views: Sequence[SourceView], headers: Sequence[PhotoHeader], notes: list[str]
) -> list[Lens]:
    """The lenses at the sizes of the photos."""
    lenses, rescaled = [], Counter[tuple[Size, Size]]()
    for view, header in zip(views, headers, strict=True):
        lens, size = view.lens, header.size
        if lens.size is not None and lens.size != size:
            if not same_aspect(lens.size, size):
                raise ValueError(_does_not_fit(view, lens.size, header))
            rescaled[lens.size, size] += 1
        lenses.append(lens.resized(size))
    notes += [
        f"{count} photos are {_pixels(size)}, their camera is for {_pixels(stated)}: K is rescaled"
        for (stated, size), count in rescaled.items()
    ]
    return lenses


def _does_not_fit(view: SourceView, stated: Size, header: PhotoHeader) -> str:
    advice = "give the photos that the cameras were made for (--photos)"
    if header.orientation != 1 and same_aspect(stated, header.stored):
        advice = (
            f"its EXIF orientation ({header.orientation}) turns it, and the camera is for the "
            "unturned pixels: remove that tag from the photos (exiftool -Orientation= FOLDER)"
        )
    return (
        f"{view.photo} is {_pixels(header.size)}, but its camera is for {_pixels(stated)}, another "
        f"aspect ratio; {advice}."
    )


def _pixels(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def _lens_notes(files: Sequence[ViewFiles]) -> list[str]:
    changed = Counter(
        (view.lens.law, view.lens.size, view.undistorted.size)
        for view in files
        if not view.lens.is_pinhole
    )
    return [
        f"{law} distortion is removed from {count} photos: {_pixels(before or after)} become "
        f"{_pixels(after)}"
        for (law, before, after), count in changed.items()
    ]


def _with_depths(
    files: Sequence[ViewFiles], source: Source, folder: Path, notes: list[str]
) -> list[ViewFiles]:
    """The views with depth from a folder; how it was found goes into ``notes``."""
    matches = match_depths([view.photo for view in files], source.photo_root, folder)
    notes += [f"depths: {line}" for line in matches.report().splitlines()]
    own = {photo: DepthFile(found, None) for photo, (found, *_) in matches.files.items()}
    return [replace(view, depth=own.get(view.photo)) for view in files]


def _with_masks(
    files: list[ViewFiles],
    headers: Sequence[PhotoHeader],
    source: Source,
    masks: str | Path | None,
    role: MaskRole,
    invert: bool,
    notes: list[str],
) -> list[ViewFiles]:
    """The views with their masks found; how they were found goes into ``notes``."""
    if masks is not None and str(masks) == NO_MASKS:
        return files
    matches = _match(files, source, None if masks is None else Path(masks))
    alpha = [header.has_alpha and masks is None for header in headers]
    found = []
    for view, has_alpha in zip(files, alpha, strict=True):
        rule = matches.rules.get(view.photo)
        found.append(
            replace(
                view,
                masks=matches.files.get(view.photo, ()),
                white="keep" if rule is None else rule.white,
                alpha_is_mask=has_alpha,
            )
        )
    if matches.files:
        notes += [f"masks: {line}" for line in matches.report().splitlines()]
        first = next(view for view in found if view.masks)
        said = read_masks(first.masks, role=role, white=first.white, invert=invert)
        notes += [f"masks: {note}" for note in said.notes]
    elif any(alpha):
        notes.append(f"masks: the alpha channels of {sum(alpha)}/{len(files)} photos")
    return found


_STATED = Rule("mask named by the scene")


def _match(files: Sequence[ViewFiles], source: Source, where: Path | None) -> Matches:
    """The mask files of the photos: from ``where``, else those the source names, else found."""
    photos = tuple(view.photo for view in files)
    stated = {view.photo: (view.mask,) for view in source.views if view.mask is not None}
    if where is None and stated:
        for photo, (mask,) in stated.items():
            if not mask.is_file():
                raise FileNotFoundError(
                    f"The scene names the mask {mask} for {photo.name}, but there is no such "
                    "file; restore it, give a folder of masks (--masks), or leave them out "
                    "(--masks none)."
                )
        others = tuple(photo for photo in photos if photo not in stated)
        return Matches(stated, dict.fromkeys(stated, _STATED), others)
    try:
        return match_masks(photos, source.photo_root, where)
    except FileNotFoundError:
        if where is not None:
            raise
        return Matches({}, {}, photos)
