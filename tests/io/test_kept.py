"""Arrays that a killed program finds again."""

from pathlib import Path

import numpy as np
import pytest

from crispdepth.io.kept import KeptArrays


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    kept = KeptArrays(tmp_path / "a" / "b")
    assert not len(kept)
    kept["one"] = {"x": np.arange(6.0).reshape(2, 3), "y": np.array([True, False])}
    kept["one"] = {"x": np.arange(4, dtype=np.int64)}  # replaces
    kept["two"] = {"x": np.zeros((0, 3), np.float32)}
    again = KeptArrays(tmp_path / "a" / "b")
    assert list(again) == ["one", "two"]
    assert "one" in again
    assert "three" not in again
    assert again["one"].keys() == {"x"}
    np.testing.assert_array_equal(again["one"]["x"], np.arange(4))
    assert again["two"]["x"].shape == (0, 3)
    del again["one"]
    assert list(again) == ["two"]
    with pytest.raises(KeyError):
        again["one"]
    with pytest.raises(KeyError):
        del again["one"]


def test_what_was_not_written_whole_is_not_there_and_damage_is_named(tmp_path: Path) -> None:
    kept = KeptArrays(tmp_path)

    class Interrupted:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept["one"] = {"x": Interrupted()}  # type: ignore[dict-item]
    assert "one" not in kept
    assert not list(tmp_path.iterdir())
    kept["one"] = {"x": np.arange(100)}
    path = tmp_path / "one.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged"):
        kept["one"]
