"""Silhouettes of people: articulated capsules in everyday poses, with the holes these leave.

Lengths are shares of the body's height (the canon of seven and a half heads); x right, y down,
from the middle of the hips.
"""

from typing import NamedTuple

import numpy as np

from crispdepth.data.strokes import Mask, Points, Rng, capsules, draw, wobble

UPPER_ARM, FOREARM, THIGH, SHIN = 0.18, 0.16, 0.245, 0.245
SHOULDER_Y, NECK_Y, HEAD_Y = -0.29, -0.33, -0.405
LIMB_RADII = np.array(
    [(0.027, 0.021), (0.045, 0.032), (0.021, 0.014), (0.032, 0.019), (0.017, 0.01), (0.019, 0.014)]
)
"""At both ends of upper arm, thigh, forearm, shin, hand, foot."""


class Body(NamedTuple):
    """Where the joints of one person are, (2,) each, and how stout the person is."""

    hands: Points  # (2, 2): left, right (of the picture)
    feet: Points  # (2, 2)
    shoulder: float  # half the width of the shoulders
    hip: float  # half the width of the hips
    stoutness: float


def people(rng: Rng, size: int) -> Mask:
    """One to four people standing together, (size, size) of 0 and 1.

    Arms akimbo, behind the head, raised or hanging, hands held, legs apart or crossed, skirts,
    hair, hats and bags; whole figures and cropped ones.
    """
    count = int(rng.choice(4, p=(0.6, 0.25, 0.1, 0.05))) + 1
    mask: Mask = np.zeros((size, size), np.uint8)
    height = size * rng.uniform(0.6, 1.5) * (1 - 0.08 * count)
    tilt = rng.normal(0, 0.08)
    spacing = height * rng.uniform(0.3, 0.5)
    middle = size * rng.uniform(0.3, 0.7) - spacing * (count - 1) / 2
    hip_y = size * rng.uniform(0.42, 0.72)
    hold = rng.random() < 0.4
    meeting = np.array([spacing / height / 2, rng.uniform(-0.12, 0.08)])
    for person in range(count):
        body = _random_body(rng)
        if hold and person > 0:
            body.hands[0] = meeting * (-1, 1)
        if hold and person < count - 1:
            body.hands[1] = meeting
        scale = height * rng.uniform(0.94, 1.06)
        turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
        origin = np.array([middle + person * spacing, hip_y])
        draw(mask, (outline @ turn.T * scale + origin for outline in _outlines(body, rng)))
    if rng.integers(2):  # loose clothes
        mask = wobble(mask, rng, amplitude=0.005 * height, wavelength=0.08 * height)
    return mask


def _random_body(rng: Rng) -> Body:
    shoulder, hip = rng.uniform(0.095, 0.125), rng.uniform(0.07, 0.095)
    hands = np.stack([_hand(rng, shoulder, hip) for _ in range(2)])
    if rng.random() < 0.12:  # both hands together: before the belly, above the head
        hands[:] = (0, rng.choice((rng.uniform(-0.1, 0.02), rng.uniform(-0.62, -0.5))))
    elif rng.random() < 0.4:  # both arms alike
        hands[1] = hands[0]
    hands[0, 0] *= -1
    stride = rng.uniform(0.03, 0.2, 2) * (-1, 1)
    if rng.random() < 0.1:
        stride = -0.5 * stride  # crossed legs
    feet = np.stack([stride, 0.5 - rng.uniform(0, 0.06, 2)], axis=1)
    if rng.random() < 0.15:  # a leg drawn up
        feet[rng.integers(2), 1] -= rng.uniform(0.05, 0.2)
    return Body(hands, feet, shoulder, hip, rng.uniform(0.8, 1.35))


def _hand(rng: Rng, shoulder: float, hip: float) -> Points:
    """Where the right hand of the picture is."""
    match rng.choice(5, p=(0.35, 0.15, 0.25, 0.1, 0.15)):
        case 0:  # akimbo
            return np.array([hip + 0.01, rng.uniform(-0.12, -0.02)])
        case 1:  # behind the head
            return np.array([0.03, HEAD_Y + rng.uniform(-0.03, 0.05)])
        case 2:  # hanging
            return np.array([hip + rng.uniform(0.02, 0.1), rng.uniform(0, 0.05)])
        case 3:  # raised
            return np.array([shoulder + rng.uniform(0, 0.15), rng.uniform(-0.6, -0.4)])
        case _:  # stretched out
            return np.array([shoulder + rng.uniform(0.1, 0.3), rng.uniform(-0.45, -0.1)])


def _bend(start: Points, end: Points, first: Points, second: Points, side: Points) -> Points:
    """The middle joints (n, 2) of two-bone limbs, bent to the ``side`` (n,), -1 left or 1 right.

    An end out of reach is approached as far as the bones go: the limb is then straight.
    """
    across = end - start
    distance = np.hypot(across[:, 0], across[:, 1]) + 1e-9
    along = ((first**2 - second**2 + distance**2) / (2 * distance)).clip(-first, first)
    normal = np.stack([across[:, 1], -across[:, 0]], axis=1) / distance[:, None]
    outwards = side * np.where(normal[:, 0] >= 0, 1, -1) * np.sqrt(first**2 - along**2)
    joints: Points = start + across * (along / distance)[:, None] + normal * outwards[:, None]
    return joints


def _limbs(body: Body, rng: Rng) -> tuple[Points, Points]:
    """The bones of arms, hands, legs and feet: ends (12, 2, 2) and radii (12, 2)."""
    sides = np.array([-1.0, 1, -1, 1])
    inset = np.array([body.shoulder - 0.02] * 2 + [body.hip * 0.5] * 2)
    start = np.stack([sides * inset, np.repeat((SHOULDER_Y + 0.015, 0.0), 2)], axis=1)
    aim = np.concatenate([body.hands, body.feet])
    first, second = np.repeat((UPPER_ARM, THIGH), 2), np.repeat((FOREARM, SHIN), 2)
    knees = rng.choice((-1, 1), 2)
    joint = _bend(start, aim, first, second, sides * np.concatenate([(1, 1), knees]))
    reach = aim - joint
    length = np.hypot(reach[:, 0], reach[:, 1]) + 1e-9
    end = joint + reach * np.minimum(1, second / length)[:, None]
    toes = np.stack([sides[2:] * rng.uniform(0.01, 0.06, 2), np.full(2, 0.015)], axis=1)
    tip = end + np.concatenate([(end - joint)[:2] * 0.25, toes])
    ends = np.concatenate(
        [np.stack(bone, axis=1) for bone in ((start, joint), (joint, end), (end, tip))]
    )
    return ends, np.repeat(LIMB_RADII, 2, axis=0)


def _outlines(body: Body, rng: Rng) -> list[Points]:
    """The convex outlines, (n, 2) each, whose union is the person."""
    ends, radii = _limbs(body, rng)
    neck = np.array([[[0, HEAD_Y + 0.02], [0, SHOULDER_Y]]])
    ends, radii = np.concatenate([ends, neck]), np.concatenate([radii, [(0.026, 0.032)]])
    stout = np.sqrt(body.stoutness)
    waist, hip = body.hip * rng.uniform(0.8, 1.0) * stout, body.hip * stout
    slope = SHOULDER_Y + 0.02
    chest = [(-body.shoulder, slope), (-0.03, NECK_Y + 0.015), (0.03, NECK_Y + 0.015)]
    chest += [(body.shoulder, slope), (waist, -0.08), (-waist, -0.08)]
    belly = [(-waist, -0.1), (waist, -0.1), (hip, 0.03), (-hip, 0.03)]
    head = np.array([rng.normal(0, 0.012), HEAD_Y])
    return [
        *capsules(ends, radii * stout),
        np.array(chest),
        np.array(belly),
        _ellipse(head, 0.046, 0.06),
        *_clothes(head, hip, rng),
    ]


def _clothes(head: Points, hip: float, rng: Rng) -> list[Points]:
    """Hair, hat, skirt and bag, each now and then."""
    outlines = []
    if rng.random() < 0.5:
        outlines.append(_ellipse(head - np.array((0, 0.01)), rng.uniform(0.05, 0.075), 0.065))
    if rng.random() < 0.25:  # long hair
        outlines.append(_ellipse(head + np.array((0, 0.05)), rng.uniform(0.055, 0.08), 0.1))
    if rng.random() < 0.15:
        outlines.append(_ellipse(head - np.array((0, 0.035)), rng.uniform(0.07, 0.11), 0.018))
    if rng.random() < 0.25:
        hem, flare = rng.uniform(0.12, 0.42), rng.uniform(0.1, 0.2)
        outlines.append(np.array([[-hip, -0.08], [hip, -0.08], [flare, hem], [-flare, hem]]))
    return outlines


def _ellipse(centre: Points, across: float, down: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline: Points = centre + np.stack([across * np.cos(angle), down * np.sin(angle)], axis=1)
    return outline
