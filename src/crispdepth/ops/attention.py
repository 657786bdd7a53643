"""Attention that can be told where not to look: by a mask, by geometry, by both, head by head.

Shapes are those of `torch.nn.functional.scaled_dot_product_attention`: queries (*, heads, n, c),
keys and values (*, heads, m, c). ``True`` in a mask means that a key may be attended, as there,
and unlike `torch.nn.MultiheadAttention`. Masks are joined with ``&``.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.types import Size

DeadRows = Literal["zero", "self", "unmask"]
"""What a query gets that may attend to no key: zeros, so that a residual keeps it as it is; its
own value; or all keys, as if there were no mask."""

EPSILON = 1e-5
"""The least weight of a key under a soft mask; half precision still tells it from 0."""

_PARALLAX = 0.05  # of the tolerance: two cameras whose views are shifted by less have one centre
_NEAREST = 1e-3  # a segment ends where the key's camera is nearer by this factor than to its start


def masked_attention(
    query: Tensor,  # (*, heads, n, c)
    key: Tensor,  # (*, heads, m, c)
    value: Tensor,  # (*, heads, m, d)
    allowed: Tensor | None = None,  # bool, broadcastable to (*, heads, n, m)
    bias: Tensor | None = None,  # broadcastable likewise
    dead: DeadRows = "zero",
) -> Tensor:
    """``softmax(q k^T / sqrt(c) + bias) v`` over the keys that are allowed, (*, heads, n, d).

    Values and gradients are finite whatever is masked (spec 2.9): a row without a key is opened
    before the softmax, for a softmax of nothing is NaN and what is replaced after it keeps NaN in
    its gradient.

    Args:
        query, key, value: finite, also where they are masked: 0 times NaN is NaN.
        allowed: True where a query may attend to a key; None: everywhere.
        bias: finite, is added to the scores; it may carry a gradient.
        dead: what queries get that may attend to nothing. Under "self" the keys are the queries.

    Raises:
        ValueError: ``allowed`` is not boolean, ``dead`` is unknown, or it is "self" and the keys
            are not as many as the queries.
    """
    if dead not in get_args(DeadRows):
        raise ValueError(f"Dead rows become one of {get_args(DeadRows)}, got {dead!r}.")
    if bias is not None:
        bias = bias.to(query.dtype)
    if allowed is None:
        return F.scaled_dot_product_attention(query, key, value, bias)
    if allowed.dtype != torch.bool:
        raise ValueError(
            f"A mask of attention is boolean, got {allowed.dtype}; weights go into the bias, "
            "as log(weight)."
        )
    if dead == "self" and query.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"Queries without a key get their own value only if both are the same tokens; "
            f"got {query.shape[-2]} queries and {key.shape[-2]} keys."
        )
    alive = allowed.any(dim=-1, keepdim=True)
    mask = allowed | ~alive
    if bias is not None:
        mask = torch.where(mask, bias, -math.inf)
    attended = F.scaled_dot_product_attention(query, key, value, mask)
    match dead:
        case "zero":
            return attended.masked_fill(~alive, 0)
        case "self":
            return torch.where(alive, attended, value)
        case "unmask":
            return attended


@dataclass(frozen=True)
class HeadGroups:
    """How many heads look at the object, at what is beside it, and everywhere (spec 2.10 b).

    Either all heads look everywhere, or each group has one at least.
    """

    foreground: int = 5
    background: int = 2
    everywhere: int = 1

    def __post_init__(self) -> None:
        counts = (self.foreground, self.background, self.everywhere)
        if min(counts) < 1 and not (counts[:2] == (0, 0) and self.everywhere > 0):
            raise ValueError(
                f"Each group needs a head, or all look everywhere (0, 0, n); got {counts}."
            )

    @property
    def heads(self) -> int:
        """Their sum."""
        return self.foreground + self.background + self.everywhere

    @classmethod
    def of(cls, heads: int) -> "HeadGroups":
        """The usual shares, 5 : 2 : 1, of any number of heads >= 3 (ValueError if fewer)."""
        background, everywhere = max(1, heads // 4), max(1, heads // 8)
        return cls(heads - background - everywhere, background, everywhere)


def head_group_mask(
    keys: Tensor,  # (*, m) in [0, 1]: the mask at each key
    groups: HeadGroups,
    queries: Tensor | None = None,  # (*, n) likewise
    *,
    threshold: float = 0.5,
) -> Tensor:
    """Where each head may look, bool (*, heads, 1 or n, m): first f, then b, then g heads.

    With ``queries``, only those of the object are restricted, and what is beside it looks
    everywhere: the object's features stay its own, the background may use them.

    Ones everywhere leave the b heads without a key: dead="unmask" then gives plain attention,
    "zero" silences these heads.
    """
    inside = (keys > threshold)[..., None, None, :]
    if queries is None:
        sides = [inside, ~inside, torch.ones_like(inside)]
    else:
        free = ~(queries > threshold)[..., None, :, None]
        sides = [inside | free, ~inside | free, torch.ones_like(inside | free)]
    return _by_group(sides, groups)


def head_group_bias(
    keys: Tensor,  # (*, m) in [0, 1]: the mask at each key
    groups: HeadGroups,
    queries: Tensor | None = None,  # (*, n) likewise
    *,
    epsilon: float = EPSILON,
) -> Tensor:
    """The soft form of `head_group_mask`: (*, heads, 1 or n, m), to be added to the scores.

    ``log c`` in the heads of the object and ``log (1 - c)`` in those of the background, with c
    lifted to ``epsilon + (1 - epsilon) c``; times the query's mask if there is one. It has a
    gradient to the mask, no row is dead, and a mask that is the same at all keys changes nothing.
    """
    inside, beside = (
        torch.log(epsilon + (1 - epsilon) * side)[..., None, None, :] for side in (keys, 1 - keys)
    )
    if queries is not None:
        inside, beside = (side * queries[..., None, :, None] for side in (inside, beside))
    # A softmax does not see what all keys have in common; so a mask of ones is a bias of exactly 0.
    inside, beside = (side - side.detach().amax(-1, keepdim=True) for side in (inside, beside))
    return _by_group([inside, beside, torch.zeros_like(inside)], groups)


def _by_group(sides: list[Tensor], groups: HeadGroups) -> Tensor:
    counts = (groups.foreground, groups.background, groups.everywhere)
    spread = [
        side.expand(*side.shape[:-3], count, -1, -1)
        for side, count in zip(sides, counts, strict=True)
    ]
    return torch.cat(spread, dim=-3)


def token_centres(size: Size, stride: float, device: torch.device | None = None) -> Tensor:
    """Centres (h * w, 2) as (x, y) in pixels of the image, row by row, of tokens of a map.

    Args:
        size: (h, w) of the map.
        stride: pixels of the image per token.
        device: where they are needed.
    """
    y, x = (stride * (torch.arange(side, device=device) + 0.5) for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


@torch.no_grad()
def epipolar_mask(
    query_xy: Tensor,  # (*, n, 2) pixels
    key_xy: Tensor,  # (*, m, 2) pixels
    query_K: Tensor,  # (*, 3, 3) pixels
    key_K: Tensor,  # (*, 3, 3) pixels
    query_cam_from_world: Tensor,  # (*, 4, 4)
    key_cam_from_world: Tensor,  # (*, 4, 4)
    near: Tensor,  # (*) z-depth in the view of the queries
    far: Tensor,  # (*) likewise; may be infinite
    tolerance: float,
) -> Tensor:
    """Which keys of one view may show what queries of another do, bool (*, n, m) (spec 2.6).

    A query at a depth between ``near`` and ``far`` is seen by the other camera on a segment of its
    epipolar line; keys at most ``tolerance`` pixels from it are allowed. One token's side is a
    good tolerance: the nearest centre is at most 0.71 of it away. If all of the segment is behind
    the camera or outside the picture the row is empty. Views with one centre have no epipolar
    line, and all their keys are allowed.

    The geometry is float32 under autocast too.
    """
    with torch.autocast(query_xy.device.type, enabled=False):
        key_from_query = key_cam_from_world @ torch.linalg.inv(query_cam_from_world)
        rotation, translation = key_from_query[..., :3, :3], key_from_query[..., :3, 3:]
        infinite = key_K @ rotation @ torch.linalg.inv(query_K)
        rays = F.pad(query_xy, (0, 1), value=1.0) @ infinite.mT  # (*, n, 3)
        epipole = (key_K @ translation).mT  # (*, 1, 3)
    first, last = (
        rays + (1 / depth)[..., None, None] * epipole for depth in (far, near)
    )  # homogeneous, linear in inverse depth; the third component is the key's z times a positive
    depth = torch.maximum(first[..., 2:], last[..., 2:])
    start, end = (
        _in_front(one, other, _NEAREST * depth) for one, other in ((first, last), (last, first))
    )
    allowed = (depth > 0) & (_distance(key_xy, start, end) <= tolerance)
    focal = torch.maximum(key_K[..., 0, 0], key_K[..., 1, 1])
    parallax: Tensor = focal * translation[..., 0].norm(dim=-1) / near
    return allowed | (parallax < _PARALLAX * tolerance)[..., None, None]


def _in_front(point: Tensor, other: Tensor, least: Tensor) -> Tensor:
    """Pixels (*, n, 2) of homogeneous points, moved towards others until z is ``least``."""
    short = point[..., 2:] < least
    way = torch.where(short, other[..., 2:] - point[..., 2:], 1)
    moved = torch.lerp(point, other, torch.where(short, (least - point[..., 2:]) / way, 0))
    z = moved[..., 2:]
    pixels: Tensor = moved[..., :2] / torch.where(z > 0, z, 1)
    return pixels


def _distance(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distances (*, n, m) of points (*, m, 2) to segments (*, n, 2)."""
    way = (end - start)[..., None, :]
    offset = points[..., None, :, :] - start[..., None, :]
    along = (offset * way).sum(dim=-1) / way.square().sum(dim=-1).clamp(min=1e-12)
    distances: Tensor = (offset - along.clamp(0, 1)[..., None] * way).norm(dim=-1)
    return distances


class TokenMask(NamedTuple):
    """What queries may attend to, and how many would have been left with nothing."""

    allowed: Tensor  # bool (*, n, m)
    dead: Tensor  # scalar in [0, 1]: the share of rows in which the masks have no key in common


def epipolar_object_mask(
    epipolar: Tensor,  # bool (*, n, m)
    object_keys: Tensor,  # bool, broadcastable to (*, n, m)
    counted: Tensor | None = None,  # bool (*, n)
) -> TokenMask:
    """Keys of the object on the epipolar line; of the object alone where none is (spec 2.11).

    Args:
        epipolar: from `epipolar_mask`.
        object_keys: which keys are of the object.
        counted: the queries whose dead rows are counted, such as those of the object: what is
            beside it may rightly find no object on its line. None: all.
    """
    both = epipolar & object_keys
    alive = both.any(dim=-1, keepdim=True)
    dead = ~alive[..., 0]
    if counted is None:
        share = dead.float().mean()
    else:
        share = (dead & counted).sum() / counted.sum().clamp(min=1)
    return TokenMask(torch.where(alive, both, object_keys), share)
