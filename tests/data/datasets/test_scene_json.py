import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispdepth.data.datasets.scene_json import open_scenes
from crispdepth.geometry.depth import inverse_depth

SIZE = (20, 30)
UNIT_M = 0.0005


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)


def ids() -> Any:
    """Instance 1 covers 10 %, 2 covers 5 %, 3 is a single pixel."""
    ids = np.zeros(SIZE, np.uint8)
    ids[:10, :6] = 1
    ids[10:, :3] = 2
    ids[19, 29] = 3
    return ids


def depth_counts() -> Any:
    counts = np.full(SIZE, 4000, np.uint16)
    counts[:, 15:] = 8000
    counts[:2] = 0  # no surface
    return counts


def make_rendered(folder: Path, frames: int = 5, *, soft: bool = False) -> Path:
    for index in range(frames):
        name = f"{index:04d}.png"
        save(folder / "images" / f"{index:04d}.jpg", np.full((*SIZE, 3), 10 * index, np.uint8))
        save(folder / "depth" / name, depth_counts())
        save(folder / "init" / name, np.full(SIZE, 64 * index, np.uint16))
        save(folder / "instances" / name, ids())
        if soft:
            save(folder / "masks" / name, np.where(ids() == 1, 200, 30).astype(np.uint8))
    facts = {
        "depth_unit_m": UNIT_M,
        "n_frames": frames,
        "image_pattern": "images/%04d.jpg",
        "instances": {"1": "chair", "2": "table", "3": "pen"},
    }
    (folder / "scene.json").write_text(json.dumps(facts))
    return folder


def make_captured(folder: Path) -> Path:
    save(folder / "images/a.png", np.zeros((*SIZE, 3), np.uint8))
    save(folder / "depth/a.png", depth_counts())
    save(folder / "init/a.png", np.zeros(SIZE, np.uint16))
    save(folder / "masks/a.png", np.where(ids() == 1, 255, 0).astype(np.uint8))
    files = {part: f"{part}/a.png" for part in ("depth", "init")}
    files |= {"image": "images/a.png", "mask": "masks/a.png"}
    (folder / "scene.json").write_text(json.dumps({"depth_unit_m": UNIT_M, "frames": [files]}))
    return folder


def test_a_rendered_frame_is_read_whole(tmp_path: Path) -> None:
    dataset = open_scenes(make_rendered(tmp_path / "room"))
    sample = list(dataset)[1]
    assert (dataset.name, sample.scene, sample.name) == ("room", "room", "room/0001")
    assert sample.image.shape == (*SIZE, 3)
    assert sample.image.dtype == np.uint8
    assert (sample.initial.kind, sample.initial.unit) == ("inverse_depth", "relative")
    np.testing.assert_array_equal(sample.initial.values, 64)
    assert (sample.depth.kind, sample.depth.unit) == ("depth", "m")
    np.testing.assert_allclose(sample.depth.values[5, [0, 20]], [2, 4])


def test_every_instance_above_one_percent_is_a_mask(tmp_path: Path) -> None:
    (sample, *_) = open_scenes(make_rendered(tmp_path / "room"))
    assert sample.masks.names == ("1_chair", "2_table")
    for label in (1, 2):
        np.testing.assert_array_equal(sample.masks[label - 1], ids() == label)


def test_a_soft_mask_takes_the_place_of_the_first_instance(tmp_path: Path) -> None:
    (sample, *_) = open_scenes(make_rendered(tmp_path / "setting", soft=True))
    assert sample.masks.names == ("1_chair", "2_table")
    np.testing.assert_allclose(np.unique(sample.masks[0]), np.array([30, 200]) / 255)
    np.testing.assert_array_equal(sample.masks[1], ids() == 2)


def test_a_frame_without_large_instances_has_an_empty_mask_set(tmp_path: Path) -> None:
    scene = make_rendered(tmp_path / "room", frames=1)
    save(scene / "instances/0000.png", np.where(ids() == 3, 3, 0).astype(np.uint8))
    (sample,) = open_scenes(scene)
    assert len(sample.masks) == 0
    assert sample.masks.size == SIZE


def test_no_surface_is_far_or_not_measured_as_asked(tmp_path: Path) -> None:
    scene = make_rendered(tmp_path / "room", frames=1)
    (far,), (unknown,) = (open_scenes(scene, no_surface=choice) for choice in ("far", "invalid"))
    assert far.depth.usable.all()
    np.testing.assert_allclose(far.depth.values[:2], 4)  # the farthest surface
    np.testing.assert_array_equal(unknown.depth.usable, depth_counts() > 0)
    measured = unknown.depth.usable
    np.testing.assert_array_equal(
        inverse_depth(far.depth)[measured], inverse_depth(unknown.depth)[measured]
    )


def test_in_a_captured_scene_zero_is_never_a_distance(tmp_path: Path) -> None:
    (sample,) = open_scenes(make_captured(tmp_path / "bins"), no_surface="far")
    np.testing.assert_array_equal(sample.depth.usable, depth_counts() > 0)
    assert sample.masks.names == ("1_object",)


def test_a_folder_of_scenes_gives_the_frames_of_all_in_order(tmp_path: Path) -> None:
    make_rendered(tmp_path / "b", frames=2)
    make_rendered(tmp_path / "a", frames=3)
    dataset = open_scenes(tmp_path)
    assert [sample.name for sample in dataset] == ["a/0000", "a/0001", "a/0002", "b/0000", "b/0001"]
    assert len(dataset) == 5


def test_frames_are_thinned_within_each_scene_and_limited_in_all(tmp_path: Path) -> None:
    make_rendered(tmp_path / "a", frames=3)
    make_rendered(tmp_path / "b", frames=3)
    thinned = open_scenes(tmp_path, every=2)
    assert [frame.name for frame in thinned.frames] == ["a/0000", "a/0002", "b/0000", "b/0002"]
    others = open_scenes(tmp_path, first=1, every=2)
    assert [frame.name for frame in others.frames] == ["a/0001", "b/0001"]
    limited = open_scenes(tmp_path, every=2, limit=3)
    assert limited.frames == thinned.frames[:3]


def test_samples_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    scene = make_rendered(tmp_path / "room", frames=2)
    samples = iter(open_scenes(scene))
    next(samples)
    (scene / "init/0001.png").write_bytes(b"broken")
    with pytest.raises((ValueError, OSError)):
        next(samples)


@pytest.mark.parametrize(
    "option", [{"first": -1}, {"every": 0}, {"limit": 0}, {"no_surface": "sky"}]
)
def test_options_out_of_range_are_refused(tmp_path: Path, option: Any) -> None:
    with pytest.raises(ValueError, match=r"must be .* got"):
        open_scenes(make_captured(tmp_path / "bins"), **option)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no dataset.*scene\.json"):
        open_scenes(tmp_path)
    with pytest.raises(FileNotFoundError, match="no dataset folder"):
        open_scenes(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting"),
        ("[]", "indices"),
        ('{"n_frames": 1, "image_pattern": "%04d.jpg"}', "'depth_unit_m' is missing"),
        ('{"depth_unit_m": 1, "frames": [{"image": "a.png"}]}', "'depth' is missing"),
        ('{"depth_unit_m": 1, "n_frames": 1, "image_pattern": "a.jpg"}', "not all arguments"),
    ],
)
def test_a_malformed_scene_json_is_named_with_its_problem(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "scene.json").write_text(text)
    with pytest.raises(ValueError, match=r"Cannot use .*scene\.json") as caught:
        open_scenes(tmp_path)
    assert problem in str(caught.value)


def test_a_missing_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    scene = make_rendered(tmp_path / "room")
    (scene / "init/0003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"room/0003 lacks .*init.0003\.png"):
        open_scenes(scene)


@pytest.mark.parametrize(
    ("part", "named"), [("init", "a rough depth"), ("mask", "ids .* or a mask")]
)
def test_a_benchmark_needs_rough_depth_and_something_to_refine(
    tmp_path: Path, part: str, named: str
) -> None:
    scene = make_captured(tmp_path / "bins")
    facts = json.loads((scene / "scene.json").read_text())
    del facts["frames"][0][part]
    (scene / "scene.json").write_text(json.dumps(facts))
    with pytest.raises(FileNotFoundError, match=f"bins/0000 lacks {named}"):
        open_scenes(scene)


def test_parts_of_different_size_are_refused_with_their_sizes(tmp_path: Path) -> None:
    scene = make_captured(tmp_path / "bins")
    save(scene / "init/a.png", np.zeros((10, 15), np.uint16))
    with pytest.raises(ValueError, match=r"initial depth \(10, 15\)"):
        list(open_scenes(scene))
