import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from crispdepth.data.coco import decode_rle, draw_polygons, read_annotations


def runs_of(mask: NDArray[np.uint8]) -> list[int]:
    """Lengths of the runs down the columns, zeros first."""
    runs, last = [0], 0
    for value in mask.T.ravel().tolist():
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return runs


def compressed(runs: list[int]) -> str:
    """COCO's string of run lengths, number by number."""
    text = ""
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(bits + (32 if more else 0) + 48)
    return text


MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)
)


@given(mask=MASKS)
def test_a_list_of_runs_gives_the_mask_back(mask: NDArray[np.uint8]) -> None:
    code = {"size": list(mask.shape), "counts": runs_of(mask)}
    np.testing.assert_array_equal(decode_rle(code), mask)


@given(mask=MASKS)
def test_a_compressed_string_gives_the_mask_back(mask: NDArray[np.uint8]) -> None:
    code = {"size": list(mask.shape), "counts": compressed(runs_of(mask))}
    np.testing.assert_array_equal(decode_rle(code), mask)


@given(runs=st.lists(st.integers(0, 3000), min_size=1, max_size=12))
def test_long_runs_survive_compression(runs: list[int]) -> None:
    size = [1, sum(runs)]
    expected = decode_rle({"size": size, "counts": runs})
    np.testing.assert_array_equal(decode_rle({"size": size, "counts": compressed(runs)}), expected)


@pytest.mark.parametrize(
    "code",
    [
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [-1, 5]},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": "é"},
        {"size": [2, 2], "counts": ""},
        {"size": 4, "counts": [4]},
    ],
)
def test_a_malformed_code_is_refused(code: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run-length"):
        decode_rle(code)


def test_polygons_cover_the_pixels_they_enclose() -> None:
    square = [2.0, 3.0, 6.0, 3.0, 6.0, 8.0, 2.0, 8.0]
    mask = draw_polygons([square], (12, 10))
    assert mask[4:7, 3:5].all()
    assert abs(int(mask.sum()) - 20) <= 10
    assert not mask[:2].any()
    both = draw_polygons([square, [7.0, 9.0, 9.0, 9.0, 9.0, 11.0]], (12, 10))
    assert both.sum() > mask.sum()


@pytest.mark.parametrize("polygon", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], [1.0] * 7])
def test_a_polygon_needs_three_points(polygon: list[float]) -> None:
    with pytest.raises(ValueError, match="three or more points"):
        draw_polygons([polygon], (9, 9))


def test_annotations_know_their_category_and_draw_themselves(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 5, "height": 4, "width": 6}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": 5, "category_id": 1, "segmentation": [[0.0, 0.0, 6.0, 0.0, 6.0, 4.0]]},
            {
                "image_id": 5,
                "category_id": 1,
                "iscrowd": 1,
                "segmentation": {"size": [4, 6], "counts": [20, 4]},
            },
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    polygon, crowd = read_annotations(path)
    assert polygon.category == "person"
    assert polygon.mask().shape == (4, 6)
    np.testing.assert_array_equal(crowd.mask(), [[0, 0, 0, 0, 0, 1]] * 4)


@pytest.mark.parametrize("content", ["no json", "[]", '{"images": []}'])
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="no COCO annotation file"):
        read_annotations(path)
