"""Random surfaces: painted patterns or cut-outs of photos, with their gloss."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (h, w, 3), sRGB
Finish = Literal[
    "wall", "wood", "metal", "cloth", "leaf", "soil", "gloss", "any", "accent", "glow"
]  # fmt: skip
"""What a part is made of; "any" and "accent" are two of the others, "glow" can emit light."""

TILE = 256  # pixels, the side of a texture


class Surface(NamedTuple):
    """How a part looks."""

    texture: Picture  # (TILE, TILE, 3)
    roughness: float  # 0 mirror .. 1 matt
    metallic: float  # 0 or 1


class _Look(NamedTuple):
    """The ranges a finish is drawn from; colours are HSV on OpenCV's scale."""

    hue: tuple[int, int] = (0, 180)
    saturation: tuple[int, int] = (0, 255)
    value: tuple[int, int] = (20, 255)
    roughness: tuple[float, float] = (0.7, 1.0)


_LOOKS: dict[Finish, _Look] = {
    "wall": _Look(saturation=(0, 90), value=(110, 250)),
    "wood": _Look((12, 32), (60, 190), (40, 230), (0.3, 0.8)),
    "metal": _Look((0, 180), (0, 60), (110, 250), (0.12, 0.5)),
    "leaf": _Look((25, 75), (80, 230), (40, 200), (0.4, 0.7)),
    "soil": _Look((5, 20), (80, 160), (20, 90)),
    "gloss": _Look(roughness=(0.15, 0.45)),
    "glow": _Look(saturation=(0, 30), value=(200, 255), roughness=(0.15, 0.45)),
    "cloth": _Look(),
}
_EVERYDAY: tuple[Finish, ...] = ("wood", "metal", "cloth", "cloth", "cloth", "gloss", "gloss")
_PHOTO_FINISHES = ("wall", "cloth", "gloss")
_PHOTO_SHARE = 0.25


def draw_surface(
    rng: np.random.Generator, finish: Finish, photos: Sequence[Picture] = ()
) -> Surface:
    """A random surface of this finish; some are cut from ``photos``, if there are any."""
    if finish in ("any", "accent"):
        finish = _EVERYDAY[int(rng.integers(len(_EVERYDAY)))]
    if photos and finish in _PHOTO_FINISHES and rng.random() < _PHOTO_SHARE:
        texture = _cut(rng, photos[int(rng.integers(len(photos)))])
    else:
        texture = _paint(rng, finish)
    roughness = float(rng.uniform(*_LOOKS[finish].roughness))
    return Surface(texture, roughness, float(finish == "metal"))


def _paint(rng: np.random.Generator, finish: Finish) -> Picture:
    colours = _palette(rng, _LOOKS[finish])
    if finish == "wall":  # seldom strong: a wall is a background
        colours[1:] = colours[0] + (colours[1:] - colours[0]) * rng.uniform(0.05, 0.7)
    match finish:
        case "wood":
            field = _grain(rng)
        case "metal" | "leaf" | "soil" | "glow":
            field = _cloud(rng)
        case _:
            field = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng)
    stops = np.linspace(0, 255, len(colours))
    ramp = np.stack([np.interp(np.arange(256), stops, channel) for channel in colours.T], axis=1)
    shade = 1 + rng.uniform(0, 0.25) * (_noise(rng, 8) - 0.5)
    painted = ramp.astype(np.float32)[(field * 255).astype(np.uint8)] * shade[..., None]
    return np.clip(painted, 0, 255).astype(np.uint8)


def _palette(rng: np.random.Generator, look: _Look) -> NDArray[np.float64]:
    """Two or three sRGB colours (k, 3) in [0, 255].

    As in most rooms strong colours are rare, and those of one thing are often akin.
    """
    limits = np.array([look.hue, look.saturation, look.value], float)
    limits[1, 1] = rng.uniform(*look.saturation)
    hsv = rng.uniform(limits[:, 0], limits[:, 1], (1, int(rng.integers(2, 4)), 3))
    if rng.random() < 0.6:
        hsv[..., 0] = (hsv[:, :1, 0] + rng.normal(0, 5, hsv.shape[:2])) % 180
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)[0], float)


def _cut(rng: np.random.Generator, photo: Picture) -> Picture:
    side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1))
    y, x = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    cut = photo[y : y + side, x : x + side]
    return cv2.resize(cut, (TILE, TILE), interpolation=cv2.INTER_AREA).astype(np.uint8)


Field = NDArray[np.floating]  # (TILE, TILE) in [0, 1]


@cache
def _pixels() -> tuple[Field, Field]:
    """x and y of the pixels."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32) / TILE
    return x, y


def _grid(rng: np.random.Generator) -> tuple[Field, Field]:
    """x and y of the pixels, turned by a random angle, often by none."""
    x, y = _pixels()
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _noise(rng: np.random.Generator, cells: float) -> Field:
    """Four octaves of value noise over the whole of [0, 1]; ``cells`` of the coarsest one."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(4):
        count = int(np.clip(cells * 2**octave, 2, TILE))
        values = rng.random((count, count), np.float32) / 2**octave
        total += cv2.resize(values, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    low, high = total.min(), total.max()
    scaled: Field = (total - low) / (high - low)
    return scaled


def _grain(rng: np.random.Generator) -> Field:
    _, across = _grid(rng)
    rings = across * rng.uniform(4, 25) + _noise(rng, 2) * rng.uniform(0.5, 4)
    along = (61, 1) if np.ptp(across[:, 0]) > np.ptp(across[0]) else (1, 61)
    fibres = cv2.blur(rng.random((TILE, TILE), np.float32), along)
    return np.clip(0.7 * (rings % 1) + (fibres - 0.35), 0, 1).astype(np.float32)


def _stripes(rng: np.random.Generator) -> Field:
    _, across = _grid(rng)
    return _step(across * int(rng.integers(3, 30)) % 1, rng.uniform(0.3, 0.7))


def _checks(rng: np.random.Generator) -> Field:
    x, y = _grid(rng)
    count = int(rng.integers(2, 20))
    return ((np.floor(x * count) + np.floor(y * count)) % 2).astype(np.float32)


def _plaid(rng: np.random.Generator) -> Field:
    x, y = _grid(rng)
    count, share = int(rng.integers(3, 14)), rng.uniform(0.2, 0.6)
    return (_step(x * count % 1, share) + _step(y * count % 1, share)) / 2


def _bricks(rng: np.random.Generator) -> Field:
    x, y = _pixels()
    y = y * int(rng.integers(4, 24))
    row = np.floor(y)
    x = x * float(y.max()) * rng.uniform(0.25, 1) + 0.5 * int(rng.integers(2)) * (row % 2)
    column, joint = np.floor(x), rng.uniform(0.02, 0.1)
    shade = rng.uniform(0.5, 1, (int(row.max()) + 1, int(column.max()) + 1)).astype(np.float32)
    inside = (y - row > joint) & (x - column > joint / 2)
    bricks: Field = shade[row.astype(int), column.astype(int)] * inside
    return bricks


def _dots(rng: np.random.Generator) -> Field:
    x, y = _grid(rng)
    count, radius = int(rng.integers(3, 16)), rng.uniform(0.15, 0.45)
    return _step((x * count % 1 - 0.5) ** 2 + (y * count % 1 - 0.5) ** 2, radius**2)


def _speckle(rng: np.random.Generator) -> Field:
    return _step(_noise(rng, rng.uniform(4, 40)), rng.uniform(0.3, 0.7))


def _cloud(rng: np.random.Generator) -> Field:
    return _noise(rng, rng.uniform(2, 30))


def _plain(rng: np.random.Generator) -> Field:
    return np.full((TILE, TILE), rng.random(), np.float32)


def _step(field: Field, threshold: float) -> Field:
    return (field > threshold).astype(np.float32)


_PATTERNS: tuple[Callable[[np.random.Generator], Field], ...] = (
    _plain, _cloud, _speckle, _stripes, _checks, _plaid, _bricks, _dots, _grain,
)  # fmt: skip
