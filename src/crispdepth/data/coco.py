"""Masks in COCO's JSON format: polygons and run-length codes, compressed or not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.strokes import Mask
from crispdepth.types import Size


@dataclass(frozen=True)
class Annotation:
    """One instance of a COCO file, not yet drawn."""

    category: str
    size: Size
    segmentation: Any  # polygons [[x0, y0, ...], ...], or {"counts": ..., "size": [h, w]}

    def mask(self) -> Mask:
        """The instance (h, w) of 0 and 1.

        Raises:
            ValueError: the segmentation is malformed.
        """
        if isinstance(self.segmentation, Mapping):
            return decode_rle(self.segmentation)
        return draw_polygons(self.segmentation, self.size)


def read_annotations(path: str | Path) -> list[Annotation]:
    """The annotated instances of a COCO file (``instances_*.json``, ``stuff_*.json``).

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no COCO annotation file.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        sizes = {i["id"]: (int(i["height"]), int(i["width"])) for i in content["images"]}
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        return [
            Annotation(names[a["category_id"]], sizes[a["image_id"]], a["segmentation"])
            for a in content["annotations"]
        ]
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no COCO annotation file with images, categories and annotations "
            f"({type(error).__name__}: {error})."
        ) from error


def draw_polygons(polygons: Sequence[Sequence[float]], size: Size) -> Mask:
    """The union of COCO polygons, each x0, y0, x1, y1, ... in pixels, as (h, w) of 0 and 1.

    Raises:
        ValueError: a polygon is no list of at least three points.
    """
    mask: Mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64)
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise ValueError(
                f"A COCO polygon lists three or more points as x, y, x, y ..., got {polygon!r:.80}."
            )
        # Pixels are addressed by their corners there and by their centres in OpenCV.
        fixed = np.rint((points.reshape(-1, 2) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 1, shift=4)
    return mask


def decode_rle(code: Mapping[str, Any]) -> Mask:
    """A run-length code as a mask (h, w) of 0 and 1; runs go down the columns, zeros first.

    Args:
        code: ``size`` (h, w) and ``counts``, a list or COCO's compressed string.

    Raises:
        ValueError: the code is malformed, or its runs do not fill the size.
    """
    try:
        height, width = (int(extent) for extent in code["size"])
        counts = code["counts"]
        runs = _expand(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
        values = np.repeat(np.arange(len(runs)) % 2, runs)
        return values.astype(np.uint8).reshape(width, height).T.copy()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"Not a COCO run-length code: {code!r:.80} ({error}).") from error


def _expand(text: str) -> NDArray[np.int64]:
    """The run lengths in a compressed string.

    Each character carries five bits, lowest first, and whether more follow; the last one of a
    number its sign. From the fourth on, numbers are differences to the run before last.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    starts = np.flatnonzero(np.r_[True, last[:-1]])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16) != 0
    values -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
