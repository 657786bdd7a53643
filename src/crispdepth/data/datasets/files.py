"""What the dataset formats share: finding the files of the frames and reading their parts."""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.io.images import read_image, read_raw
from crispdepth.ops.images import eight_bit
from crispdepth.types import Camera, Size

Key = TypeVar("Key")


@dataclass(frozen=True)
class LazyFrames(Sequence[RgbdFrame], Generic[Key]):
    """Frames that are read anew each time they are asked for; a slice is a view of the same kind.

    With functions of a module as ``read`` and ``name`` it can be sent to other processes.
    """

    keys: tuple[Key, ...]
    read: Callable[[Key], RgbdFrame]
    name: Callable[[Key], str]  # what the frame will be called, without reading it

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> RgbdFrame: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyFrames[Key]": ...
    def __getitem__(self, index: int | slice) -> "RgbdFrame | LazyFrames[Key]":
        if isinstance(index, slice):
            return replace(self, keys=self.keys[index])
        return self.read(self.keys[index])


def find_files(root: str | Path, pattern: str, dataset: str) -> tuple[Path, ...]:
    """The files below ``root`` that fit the pattern, numbers in the names counting as numbers.

    Args:
        root: the folder of the dataset or any folder in it; links to folders are followed.
        pattern: of `glob`, relative to the root; ``**/`` stands for any folders, also none.
        dataset: what errors call the format.

    Raises:
        FileNotFoundError: the folder does not exist, or nothing in it fits.
    """
    folder = require_folder(root)
    found = glob.glob(pattern, root_dir=folder, recursive=True)
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no {dataset} frames: looked for {pattern} in it. "
            "Pass the folder of the dataset as it was unpacked, or one of its scenes."
        )
    return tuple(folder / name for name in sorted(found, key=_natural))


def require_folder(root: str | Path) -> Path:
    """The folder as an absolute path, so that a scene has a name even if it is called ``.``.

    Raises:
        FileNotFoundError: it does not exist.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no dataset folder {root}; check the path.")
    return folder


def read_photo(path: Path) -> NDArray[np.uint8]:
    """The photo in a file, (h, w, 3) sRGB; of 16 bits the upper 8."""
    return eight_bit(read_image(path).rgb)


def read_plane(path: Path) -> NDArray[Any]:
    """The (h, w) numbers of a one-channel picture."""
    array = read_raw(path).array
    if array.ndim != 2:
        raise ValueError(f"{path} should have one channel, its array is {array.shape}.")
    return array


def read_ids(path: Path, size: Size | None = None) -> NDArray[np.int32]:
    """The ids in a one-channel picture, (h, w), or of the nearest pixels where a size is given."""
    ids = read_plane(path)
    if size is not None and ids.shape != size:
        ids = cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return ids.astype(np.int32)


def camera_at(
    K: NDArray[np.float64], size: Size, world_from_cam: NDArray[np.float64]
) -> Camera | None:
    """The camera with that position; None where tracking was lost, which files tell by NaN or inf.

    Args:
        K: (3, 3), the centre of the top-left pixel at (0.5, 0.5).
        size: (height, width).
        world_from_cam: (4, 4), OpenCV axes.
    """
    if not np.isfinite(world_from_cam).all():
        return None
    return Camera(K, size, np.asarray(np.linalg.inv(world_from_cam), np.float64))


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The ``h5py.File`` at ``path``, open for reading.

    Raises:
        ImportError: h5py is not installed.
        OSError: the file does not exist or is no HDF5 file.
        ValueError: it lacks what is asked of it.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'Reading HDF5 datasets needs h5py: pip install "crispdepth[datasets]"'
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}; check the path.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise OSError(f"{path} is not a whole HDF5 file: {error}; get it again.") from error
    with file:
        try:
            yield file
        except KeyError as error:
            raise ValueError(
                f"{path} lacks an array: {error}; it holds {', '.join(file) or 'nothing'}."
            ) from error


def _natural(name: str) -> list[str | int]:
    """A sort key by which frame 2 comes before frame 10."""
    parts: list[str | int] = list(re.split(r"(\d+)", name))
    parts[1::2] = [int(number) for number in parts[1::2]]
    return parts
