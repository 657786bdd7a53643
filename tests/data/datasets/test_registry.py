from pathlib import Path

import pytest

from crispdepth.data.datasets.registry import DATASETS, open_dataset


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset format 'kitti'; known are .*hypersim"):
        open_dataset("kitti", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no dataset folder .*absent"):
        open_dataset(name, tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("blendedmvs", "rendered_depth_maps"),
        ("dtu", "Depths/*/depth_map_*.pfm"),
        ("folder", "a folder images and a folder depth"),
        ("hypersim", "depth_meters.hdf5"),
        ("middlebury", "disp0.pfm"),
        ("nyu", "nyu_depth_v2_labeled.mat"),
        ("objaverse", "[0-9]*.npy"),
        ("rendered", "scene.json"),
        ("scannet", "depth/*.png"),
        ("scenes", "transforms.json"),
        ("sevenscenes", "frame-*.depth.png"),
        ("tartanair", "_left_depth.npy"),
    ],
)
def test_a_folder_of_something_else_is_told_what_was_looked_for(
    tmp_path: Path, name: str, looked_for: str
) -> None:
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        open_dataset(name, tmp_path)
    assert looked_for in str(caught.value)
    assert str(tmp_path) in str(caught.value)
