"""Arrays under names, in the files of a folder: what a long computation has finished so far."""

import zipfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import atomic_path, make_folder, remove_stale

_SUFFIX = ".npz"


class KeptArrays(MutableMapping[str, Mapping[str, NDArray[Any]]]):
    """A mapping from names, which are those of files without their suffix, to arrays by name.

    What is there is whole, even if the program was killed while it was written.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the folder, making it if need be.

        Raises:
            OSError: it cannot be made.
        """
        self.folder = Path(folder)
        make_folder(self.folder)
        remove_stale(self.folder)

    def __contains__(self, name: object) -> bool:
        return self._path(str(name)).is_file()

    def __getitem__(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of that name.

        Raises:
            KeyError: there are none.
            ValueError: their file is damaged.
        """
        try:
            with self._path(name).open("rb") as file, np.load(file) as arrays:
                return dict(arrays)
        except FileNotFoundError as error:
            raise KeyError(name) from error
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self._path(name)} is damaged: remove it and try again.") from error

    def __setitem__(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        with atomic_path(self._path(name)) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]

    def __delitem__(self, name: str) -> None:
        try:
            self._path(name).unlink()
        except FileNotFoundError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob(f"[!.]*{_SUFFIX}")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"
