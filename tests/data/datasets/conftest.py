from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Save = Callable[[Path, Any], Path]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def save() -> Save:
    """Writes an array as picture, ``.npy`` or HDF5, or a text, and makes the folders it needs."""

    def write(path: Path, content: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif path.suffix == ".npy":
            np.save(path, content)
        elif path.suffix == ".hdf5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(path, "w") as file:
                file["dataset"] = content
        else:
            assert cv2.imwrite(str(path), content[..., ::-1] if content.ndim == 3 else content)
        return path

    return write
