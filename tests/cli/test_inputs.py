"""Which photos a command line means, and that their results never meet."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.cli.inputs import Photos, find_photos, result_names


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(photos: Photos) -> list[str]:
    return [file.relative_to(photos.root).as_posix() for file in photos.files]


def test_a_folder_means_the_pictures_in_its_tree(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "sub/deep/c.webp", "notes.txt", "d.npy", ".hidden.png")
    touch(tmp_path, ".cache/e.png", "masks/a.png", "sub/depth/c.png")
    assert names_of(find_photos([str(tmp_path)])) == ["a.png", "b.JPG", "sub/deep/c.webp"]


def test_folders_to_avoid_are_not_entered_unless_they_were_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/b.png")
    assert names_of(find_photos([str(tmp_path)], avoid=[tmp_path / "out"])) == ["a.png"]
    assert names_of(find_photos([str(tmp_path / "out")], avoid=[tmp_path / "out"])) == ["b.png"]
    pattern = str(tmp_path / "**" / "*.png")
    assert names_of(find_photos([pattern], avoid=[tmp_path / "out"])) == ["a.png"]


def test_results_of_an_earlier_run_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "old/manifest.jsonl", "old/a/preview.png")
    assert names_of(find_photos([str(tmp_path)])) == ["a.png"]


def test_a_project_folder_means_its_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/cam/a.jpg", "depth/a.png", "init/a.png", "instances/a.png")
    found = find_photos([str(tmp_path)])
    assert (found.root, names_of(found)) == (tmp_path / "images", ["cam/a.jpg"])
    assert str(tmp_path / "images") in found.notes[0]
    touch(tmp_path, "own.png")
    found = find_photos([str(tmp_path)])
    assert found.root == tmp_path, "with photos of its own it is a folder of photos"
    assert found.notes == ()


def test_a_pattern_is_rooted_where_its_wildcards_begin(tmp_path: Path) -> None:
    touch(tmp_path, "x/1/a.png", "x/2/a.png", "y/1/a.png", "x/1/a.txt")
    assert names_of(find_photos([str(tmp_path / "x" / "*" / "*")])) == ["1/a.png", "2/a.png"]


def test_a_file_with_wildcard_characters_in_its_name_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "[1].png", "1.png")
    assert names_of(find_photos([str(tmp_path / "[1].png")])) == ["[1].png"]


def test_a_list_is_relative_to_itself_and_may_have_comments(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.png")
    (tmp_path / "list.txt").write_text("# two photos\n\n in/b.png \nin/a.png\nin/../in/a.png\n")
    assert names_of(find_photos([str(tmp_path / "list.txt")])) == ["in/a.png", "in/b.png"]


def test_a_list_may_name_photos_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "in/x/a.png", "in/y/b.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text("../in/x/a.png\n../in/y/b.png\n")
    found = find_photos([str(tmp_path / "lists" / "list.txt")])
    assert (found.root, names_of(found)) == (tmp_path / "in", ["x/a.png", "y/b.png"])


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ValueError, match="UTF-8"):
        find_photos([str(tmp_path / "list.txt")])


def test_a_photo_named_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    words = [str(tmp_path / "in"), str(tmp_path / "in" / "a.png"), str(tmp_path / "in/../in/a.png")]
    assert names_of(find_photos(words)) == ["a.png"]


def test_several_folders_keep_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png")
    words = [str(tmp_path / "x"), str(tmp_path / "y")]
    assert names_of(find_photos(words)) == ["x/a.png", "y/a.png"]


@pytest.mark.parametrize(
    ("word", "error"),
    [("nothing.png", FileNotFoundError), ("*.png", FileNotFoundError), (".", ValueError)],
)
def test_finding_nothing_is_an_error(word: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match=r"photo"):
        find_photos([os.path.join(tmp_path, word)])


def photos_named(*names: str) -> Photos:
    root = Path("/photos")
    return Photos(root, tuple(sorted(root / name for name in names)))


def test_a_result_goes_by_the_photo_without_its_suffix() -> None:
    names = result_names(photos_named("a.jpg", "sub/a.jpg", "b.c.png"))
    assert list(names.values()) == ["a", "b.c", "sub/a"]


def test_photos_that_would_share_a_result_keep_their_suffixes() -> None:
    names = result_names(photos_named("a.jpg", "a.png", "b.png", "B.jpg"))
    assert sorted(names.values()) == ["B.jpg", "a.jpg", "a.png", "b.png"]


def test_a_full_name_yields_no_new_clash() -> None:
    names = result_names(photos_named("a.jpg", "a.png", "a.png.webp"))
    assert sorted(names.values()) == ["a.jpg", "a.png", "a.png.webp"]


PARTS = st.text(alphabet="abA.", min_size=1, max_size=4).map(lambda text: f"x{text}")
NAMES = st.lists(st.tuples(PARTS, st.sampled_from([".jpg", ".png", ".PNG"])), min_size=1)
OWN = (
    *("config.json", "manifest.jsonl", "manifest.1-of-2.jsonl", "summary.json"),
    *("summary.2-of-2.json", "depth.exr", "depth.png", "depth.pfm.json", "layers.exr"),
    *("layers.npz", "mask_0.png", "mask_12.png", "confidence.png", "preview.png"),
)


@pytest.mark.parametrize("own", OWN)
def test_no_result_is_where_the_program_writes_a_file_of_its_own(own: str) -> None:
    photos = photos_named(f"{own}.png", f"{own.upper()}.jpg", "a.jpg", f"a/{own}.png", f"{own}/b.x")
    names = result_names(photos)
    assert len({name.casefold() for name in names.values()}) == len(photos.files)
    parts = {part.casefold() for name in names.values() for part in name.split("/")}
    assert own.casefold() not in parts


def test_a_result_may_be_called_like_one_that_was_renamed() -> None:
    names = result_names(photos_named("config.json.png", "config.json_.png", "depth.png"))
    assert list(names.values()) == ["config.json_", "config.json__", "depth"]


@given(NAMES)
def test_names_of_results_are_always_distinct(parts: list[tuple[str, str]]) -> None:
    photos = photos_named(*{stem + suffix for stem, suffix in parts})
    names = result_names(photos)
    assert set(names) == set(photos.files)
    assert len(set(names.values())) == len(photos.files)
    assert result_names(Photos(photos.root, photos.files[::-1])) == names
