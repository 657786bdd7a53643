import json
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from crispdepth.io.match import match_depths, match_masks, without_companions
from crispdepth.io.naming import MASK_RULES

Touch = Callable[..., list[Path]]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """Creates empty files below the temporary folder; resolving looks at names only."""

    def create(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return paths

    return create


@pytest.mark.parametrize(
    ("mask", "rule", "white"),
    [
        ("sub/012.jpg", "same name", "keep"),
        ("sub/012.jpg.png", "name.ext.png", "keep"),
        ("sub/012.png", "stem.png", "keep"),
        ("sub/012.TIF", "stem.png", "keep"),
        ("sub/012.npy", "stem.png", "keep"),
        ("sub/012_mask.png", "stem_mask.png", "keep"),
        ("sub/012.mask.png", "stem.mask.png", "keep"),
        ("sub/dynamic_mask_012.png", "dynamic_mask_stem.png", "ignore"),
        ("sub/012.person.png", "stem.<label>.png", "keep"),
        ("012.jpg.png", "name.ext.png", "keep"),  # all masks in one folder
        ("deeper/sub/012.png", "stem.png", "keep"),  # a tree within a tree
    ],
)
def test_every_mask_convention_is_found(
    touch: Touch, tmp_path: Path, mask: str, rule: str, white: str
) -> None:
    photos = touch("photos/sub/012.jpg")
    masks = touch(f"masks/{mask}")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.files == {photos[0]: tuple(masks)}
    assert matches.rules[photos[0]].name == rule
    assert matches.rules[photos[0]].white == white


@pytest.mark.parametrize(
    ("depth", "rule"),
    [
        ("sub/012.exr", "stem.exr"),
        ("sub/012.png", "stem.exr"),
        ("sub/012.jpg.png", "name.ext.exr"),
        ("sub/012.jpg.geometric.bin", "name.ext.geometric.bin"),
        ("sub/012.jpg.photometric.bin", "name.ext.photometric.bin"),
        ("sub/012_depth.png", "stem_depth.exr"),
        ("sub/012.depth.pfm", "stem.depth.exr"),
        ("sub/012/depth.exr", "stem/depth.exr"),
    ],
)
def test_every_depth_convention_is_found(
    touch: Touch, tmp_path: Path, depth: str, rule: str
) -> None:
    photos = touch("photos/sub/012.jpg", "photos/sub/013.jpg")
    depths = touch(f"depth/{depth}", f"depth/{depth.replace('012', '013')}")
    matches = match_depths(photos, tmp_path / "photos", tmp_path / "depth")
    assert matches.files == {
        photo: (depth_file,) for photo, depth_file in zip(photos, depths, strict=True)
    }
    assert {rule.name for rule in matches.rules.values()} == {rule}


def test_the_preferred_suffix_wins(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.png")
    suffixes = ["exr", "npy", "npz", "pfm", "tiff", "bin", "png"]
    touch(*(f"depth/1.{suffix}" for suffix in suffixes))
    for suffix in suffixes:
        matches = match_depths(photos, tmp_path / "photos", tmp_path / "depth")
        assert matches.files[photos[0]][0].suffix == f".{suffix}"
        matches.files[photos[0]][0].unlink()


def test_several_label_files_belong_to_one_photo(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/a.jpg", "photos/a.b.jpg")
    masks = touch("masks/a.person.png", "masks/a.car.png", "masks/a.b.png", "masks/a.jpg.txt")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.files == {photos[0]: (masks[1], masks[0]), photos[1]: (masks[2],)}


def test_one_file_serves_all_photos(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg", "photos/2.jpg")
    (mask,) = touch("camera_mask.png")
    matches = match_masks(photos, tmp_path / "photos", mask)
    assert matches.files == {photos[0]: (mask,), photos[1]: (mask,)}
    assert matches.report() == "2/2 photos matched by rule one mask for all photos"


def test_a_file_given_for_one_photo_is_taken_whatever_its_name(
    touch: Touch, tmp_path: Path
) -> None:
    photos = touch("1.jpg")
    mask, inverted = touch("elsewhere/any.png", "dynamic_mask_1.png")
    assert match_masks(photos, tmp_path, mask).files == {photos[0]: (mask,)}
    assert match_masks(photos, tmp_path, mask).rules[photos[0]].white == "keep"
    assert match_masks(photos, tmp_path, inverted).rules[photos[0]].white == "ignore"
    unnamed = [tmp_path / "-"]  # from standard input
    assert match_masks(unnamed, tmp_path, inverted).rules[unnamed[0]].white == "ignore"


def test_one_depth_file_for_several_photos_is_refused(touch: Touch, tmp_path: Path) -> None:
    photos = touch("1.jpg", "2.jpg")
    (depth,) = touch("depth.npy")
    assert match_depths(photos[:1], tmp_path, depth).files == {photos[0]: (depth,)}
    with pytest.raises(ValueError, match="one depth file, but there are 2 photos"):
        match_depths(photos, tmp_path, depth)


@pytest.mark.parametrize("where", ["scene", "scene/transforms.json", None])
def test_nerfstudio_frames_name_their_masks_and_depths(
    touch: Touch, tmp_path: Path, where: str | None
) -> None:
    photos = touch("scene/images/1.jpg", "scene/images/2.png")
    masks = touch("scene/m/a.png", "scene/m/b.png", "scene/d/a.png", "scene/d/b.png")
    frames = [
        {"file_path": "images/1.jpg", "mask_path": "m/a.png", "depth_file_path": "d/a.png"},
        {"file_path": "./images/2", "mask_path": "m/b.png", "depth_file_path": "d/b.png"},
    ]
    (tmp_path / "scene/transforms.json").write_text(json.dumps({"frames": frames}))
    place = where and tmp_path / where
    for match, expected in ((match_masks, masks[:2]), (match_depths, masks[2:])):
        matches = match(photos, tmp_path / "scene/images", Path(place) if place else None)
        assert matches.files == {photos[0]: (expected[0],), photos[1]: (expected[1],)}
        assert matches.report() == "2/2 photos matched by rule transforms.json"


def test_a_mask_that_transforms_names_but_is_not_there_is_an_error(
    touch: Touch, tmp_path: Path
) -> None:
    photos = touch("images/1.jpg")
    frames = [{"file_path": "images/1.jpg", "mask_path": "m/a.png"}]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(ValueError, match=r"a\.png for 1\.jpg, but there is no such file"):
        match_masks(photos, tmp_path / "images", None)


@pytest.mark.parametrize("text", ["{", "[]", '{"frames": [1]}', '{"frames": [{"mask_path": "a"}]}'])
def test_a_broken_transforms_file_is_named(touch: Touch, tmp_path: Path, text: str) -> None:
    photos = touch("images/1.jpg")
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(ValueError, match=r"transforms\.json is not a"):
        match_masks(photos, tmp_path / "images", tmp_path / "transforms.json")


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("images/1.jpg", "masks/1.png"),
        ("images_4/1.jpg", "masks_4/1.png"),
        ("images/1.jpg", "masks_2/1.png"),
        ("photos/1.jpg", "photos/masks/1.png"),
        ("photos/1.jpg", "photos/1_mask.png"),
        ("photos/1.jpg", "photos/1.mask.png"),
        ("photos/1.jpg", "photos/1.jpg.png"),
        ("photos/1.jpg", "photos/dynamic_mask_1.png"),
    ],
)
def test_masks_are_found_without_saying_where(
    touch: Touch, tmp_path: Path, photo: str, mask: str
) -> None:
    photos, masks = touch(photo), touch(mask)
    matches = match_masks(photos, photos[0].parent, None)
    assert matches.files == {photos[0]: tuple(masks)}


@pytest.mark.parametrize("neighbour", ["1.png", "1.person.png"])
def test_a_neighbour_whose_name_does_not_say_mask_is_taken_only_when_asked(
    touch: Touch, tmp_path: Path, neighbour: str
) -> None:
    photos, masks = touch("photos/1.jpg"), touch(f"photos/{neighbour}")
    root = tmp_path / "photos"
    with pytest.raises(FileNotFoundError):
        match_masks(photos, root, None)
    assert match_masks(photos, root, root).files == {photos[0]: tuple(masks)}


def test_one_rule_that_explains_all_photos_is_used_alone(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg", "photos/2.jpg")
    touch("masks/1.jpg.png", "masks/1_mask.png", "masks/2_mask.png")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.report() == "2/2 photos matched by rule stem_mask.png"


def test_of_two_rules_that_explain_all_the_first_is_used(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg")
    names = ["1.jpg", "1.jpg.png", "1.png", "1_mask.png", "1.mask.png", "dynamic_mask_1.png"]
    for name in [*names, "1.label.png"]:
        touch(f"masks/{name}")
    for rule, name in zip(MASK_RULES, [*names, "1.label.png"], strict=True):
        matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
        assert matches.rules[photos[0]] == rule
        (tmp_path / "masks" / name).unlink()


def test_the_report_counts_rules_and_names_what_is_left(touch: Touch, tmp_path: Path) -> None:
    photos = touch(*(f"photos/{i}.jpg" for i in range(10)))
    touch(*(f"masks/{i}.jpg.png" for i in range(5)), "masks/dynamic_mask_5.png")
    report = match_masks(photos, tmp_path / "photos", tmp_path / "masks").report()
    assert report.splitlines() == [
        "5/10 photos matched by rule name.ext.png",
        "1/10 photos matched by rule dynamic_mask_stem.png (white = ignore)",
        "4/10 photos without a match: 6.jpg, 7.jpg, 8.jpg, 9.jpg",
    ]


def test_the_report_shows_the_suffixes_that_were_found_and_the_folders(
    touch: Touch, tmp_path: Path
) -> None:
    photos = touch("photos/a/1.jpg", "photos/b/1.jpg", "photos/b/2.jpg")
    touch("depth/a/1.png", "depth/b/1.npy")
    report = match_depths(photos, tmp_path / "photos", tmp_path / "depth").report()
    assert report.splitlines() == [
        "1/3 photos matched by rule stem.png",
        "1/3 photos matched by rule stem.npy",
        f"1/3 photos without a match: {Path('b', '2.jpg')}",
    ]


def test_a_photo_in_a_folder_that_is_not_there_costs_only_itself(
    touch: Touch, tmp_path: Path
) -> None:
    photos, masks = touch("a/1.jpg"), touch("a/1_mask.png")
    missing = tmp_path / "gone" / "2.jpg"
    matches = match_masks([*photos, missing], tmp_path, None)
    assert matches.files == {photos[0]: tuple(masks)}
    assert matches.unmatched == (missing,)
    with pytest.raises(FileNotFoundError, match="No mask matches"):
        match_masks([missing], tmp_path / "gone", None)


def test_a_mask_that_is_taken_for_a_photo_is_hinted_at(touch: Touch, tmp_path: Path) -> None:
    photos = touch("1.jpg", "1.png")
    touch("1_depth.png")
    with pytest.raises(ValueError, match=r"fits several photos.*no photo but a mask"):
        match_depths(photos, tmp_path, None)


def test_a_mask_that_fits_two_photos_is_refused(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/x/1.jpg", "photos/y/1.jpg")
    touch("masks/1.png")
    with pytest.raises(ValueError, match=r"masks/1\.png fits several photos: .*x/1\.jpg.*y/1\.jpg"):
        match_masks(photos, tmp_path / "photos", tmp_path / "masks")


def test_two_photos_of_one_stem_need_masks_that_say_which(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg", "photos/1.webp")
    touch("masks/1.png")
    with pytest.raises(ValueError, match="fits several photos"):
        match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    exact = touch("masks/1.jpg.png", "masks/1.webp.png")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.files == {photos[0]: (exact[0],), photos[1]: (exact[1],)}


def test_two_masks_that_fit_a_photo_are_refused(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg")
    touch("masks/a/1.png", "masks/b/1.png")
    with pytest.raises(ValueError, match="Several files fit the photo"):
        match_masks(photos, tmp_path / "photos", tmp_path / "masks")


def test_the_same_folder_goes_before_the_name_alone(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg", "photos/x/1.jpg", "photos/y/1.jpg")
    masks = touch("masks/1.png", "masks/x/1.png")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.files == {photos[0]: (masks[0],), photos[1]: (masks[1],)}
    assert matches.unmatched == (photos[2],)


@pytest.mark.parametrize("same_folder", [True, False])
def test_a_photo_is_never_the_mask_of_a_photo(
    touch: Touch, tmp_path: Path, same_folder: bool
) -> None:
    photos = touch("1.jpg", "1.png", "1_mask.jpg", "1.b.jpg", "dynamic_mask_1.png", "1.jpg.png")
    where = tmp_path if same_folder else None
    with pytest.raises(FileNotFoundError):
        match_masks(photos, tmp_path, where)
    (mask,) = touch("1.b_mask.png")
    matches = match_masks(photos, tmp_path, where)
    assert matches.files == {photos[3]: (mask,)}


def test_masks_beside_photos_are_not_photos(touch: Touch) -> None:
    photos = touch("a/1.jpg", "a/2.jpg", "a/1.5.jpg")
    companions = touch(
        "a/1_mask.png", "a/1.mask.png", "a/1.jpg.png", "a/dynamic_mask_2.png", "a/2_depth.png"
    )
    others = touch("a/3_mask.png", "b/1_mask.png")  # there is no photo they could belong to
    assert without_companions(photos + companions + others) == photos + others


def test_names_match_however_their_accents_are_written(touch: Touch, tmp_path: Path) -> None:
    name = "Übung/日本 été"
    photos = touch("photos/" + unicodedata.normalize("NFC", name) + ".jpg")
    masks = touch("masks/" + unicodedata.normalize("NFD", name) + ".png")
    matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    assert matches.files == {photos[0]: tuple(masks)}


def test_relative_paths_match_as_absolute_ones_do(
    touch: Touch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("photos/x/1.jpg", "photos/masks/x/1.png")
    monkeypatch.chdir(tmp_path / "photos")
    photo, mask = Path("x/1.jpg"), Path("masks/x/1.png")
    assert match_masks([photo], Path(), Path("masks")).files == {photo: (mask,)}
    assert match_masks([photo], Path(), None).rules[photo].name == "stem.png"


def test_hidden_and_foreign_files_are_not_candidates(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg")
    touch("masks/.hidden/1.png", "masks/1.txt", "masks/1.json", "masks/._1.png")
    with pytest.raises(FileNotFoundError):
        match_masks(photos, tmp_path / "photos", tmp_path / "masks")


def test_no_match_says_what_was_tried_and_what_is_there(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/012.jpg")
    touch("masks/apple.png", "masks/pear.png")
    with pytest.raises(FileNotFoundError) as error:
        match_masks(photos, tmp_path / "photos", tmp_path / "masks")
    for part in ("012.jpg.png", "012_mask.png", "dynamic_mask_012.png", "apple.png, pear.png"):
        assert part in str(error.value)


def test_a_place_that_is_not_there_is_named(touch: Touch, tmp_path: Path) -> None:
    photos = touch("photos/1.jpg")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        match_masks(photos, tmp_path / "photos", tmp_path / "nowhere")


def test_a_photo_outside_its_root_is_refused(touch: Touch, tmp_path: Path) -> None:
    photos = touch("elsewhere/1.jpg", "masks/1.png")
    with pytest.raises(ValueError, match="is not below"):
        match_masks(photos[:1], tmp_path / "photos", tmp_path / "masks")


def calls(function: Callable[[], object]) -> int:
    """How many functions it calls: its work, whatever else the machine is doing."""
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_five_thousand_photos_are_matched_within_a_second(touch: Touch, tmp_path: Path) -> None:
    photos = touch(*(f"photos/{i % 50}/{i:05}.jpg" for i in range(5000)))
    touch(*(f"masks/{i % 50}/{i:05}.jpg.png" for i in range(5000)))

    def seconds() -> float:
        start = time.process_time()
        matches = match_masks(photos, tmp_path / "photos", tmp_path / "masks")
        assert matches.report() == "5000/5000 photos matched by rule name.ext.png"
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 1


def test_the_work_is_linear_in_the_number_of_photos(touch: Touch, tmp_path: Path) -> None:
    def work(count: int, name: str) -> int:
        photos = touch(*(f"{name}/photos/{i:05}.jpg" for i in range(count)))
        touch(*(f"{name}/out/{i:05}/depth.exr" for i in range(count)))
        root = tmp_path / name
        assert len(match_depths(photos, root / "photos", root / "out").files) == count
        return calls(lambda: match_depths(photos, root / "photos", root / "out"))

    assert work(2000, "many") < 11 * work(200, "few")
