"""Posed photos, with soft masks or without, to the depth of each.

A plane-sweep network in the manner of DepthSplat (Xu et al., CVPR 2025), small enough for a CPU:
features of each view, attention between the views, correlations along planes of equal inverse
depth, a filter that all planes share and a U-Net that knows the photo, then a finer sweep around
the answer and upsampling. Masks say which source pixels are evidence, which planes are worth
looking at, and where depth may jump; ones everywhere are the same as no masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.gaussians import GaussianHead
from crispdepth.models.multiview.agreement import agreement
from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.cost import (
    Correlation,
    EdgeVolume,
    PlaneFilter,
    Rig,
    Volume,
    expectation,
)
from crispdepth.models.multiview.dynamic_cost import DynamicCost
from crispdepth.models.multiview.layers import zeroed
from crispdepth.models.multiview.monocular import HEADS, SmallViT
from crispdepth.models.multiview.pretrained import PretrainedViT, load_encoder
from crispdepth.models.multiview.pyramid import Levels, Pyramid
from crispdepth.models.multiview.regulariser import Regulariser
from crispdepth.models.multiview.separable_attention import MaskedSeparableAttention
from crispdepth.models.multiview.told import Told
from crispdepth.models.multiview.transformer import MultiviewTransformer, Tokens
from crispdepth.models.multiview.upsampler import Guide, Residual, guided_double
from crispdepth.models.multiview.view_weights import PairDepth
from crispdepth.ops.attention import HeadGroups, epipolar_mask, token_centres
from crispdepth.ops.cost_volume import inverse_depth_candidates, mask_confidence
from crispdepth.ops.splat import Splats

STRIDE = 16
"""Heights and widths of the photos are multiples of this."""


class MultiviewPrediction(NamedTuple):
    """What the network says of the first R views; inverse depths in 1 / the unit of the poses."""

    inverse_depth: Tensor  # (B, R, H, W), between 1 / far and 1 / near
    coarse: tuple[Tensor, Tensor]  # (B, R, H / 4, W / 4) and (B, R, H / 2, W / 2)
    logits: Tensor  # (B, R, D, H / 4, W / 4) of the coarse planes, 1 / far to 1 / near
    probability: Tensor  # (B, R, H / 2, W / 2) in (0, 1]: of the planes about the answer
    evidence: Tensor  # (B, R, H / 4, W / 4) in [0, 1]: what share of the sources sees the answer
    features: Tensor  # (B, R, C, H / 2, W / 2): what the last correction was made from
    gaussians: tuple[Splats, ...] = ()  # R H W of each sample, if they were asked for
    # What each source alone says at 1/4 and 1/2, N = B R; none without uncertainty (2.3)
    pairs: tuple[tuple[PairDepth, ...], ...] = ()
    dead: Tensor | None = None  # (), see `Attended`; of masks.attention=epipolar


class Look(NamedTuple):
    """N views of one size on the way to their features."""

    maps: Levels
    tokens: Tensor | None  # (N, 1, H / 8, W / 8): the masks, where attention is told of them
    rig: Rig  # N cameras
    heard: int = 0  # how many blocks of `MultiviewTransformer` have told them of others

    @property
    def size(self) -> tuple[int, int]:
        """Of the coarsest maps, (height, width)."""
        return self.maps.eighth.shape[2], self.maps.eighth.shape[3]


class MultiviewNetwork(nn.Module):
    """Depth of posed views that see the same."""

    def __init__(self, config: MultiviewNetworkConfig) -> None:
        """A network with fresh weights.

        Raises:
            ValueError: switches do not fit together.
        """
        super().__init__()
        self.config = config
        use = config.masks
        _check(config)
        half, quarter, eighth = config.widths
        self.pyramid = Pyramid(config.widths, use)
        self.transformer = MultiviewTransformer(eighth, config.attention_blocks, config.heads, use)
        self.merge_quarter = nn.Conv2d(quarter + eighth, quarter, 3, padding=1)
        self.merge_half = nn.Conv2d(half + quarter, half, 3, padding=1)
        self.correlate_quarter = Correlation(quarter, config.matching[0], config)
        self.filter_quarter = PlaneFilter(
            self.correlate_quarter.groups, config.filter_width, hull=use.hull
        )
        self.regulariser = Regulariser(config.planes[0], quarter + eighth, config.unet_width, use)
        self.guide_half = Guide(half)
        self.guide_full = Guide(3)
        self.residual = Residual(config.widths, config.features, use)
        if config.planes[1]:
            self.correlate_half = Correlation(half, config.matching[1], config)
            self.filter_half = PlaneFilter(
                self.correlate_half.groups, config.filter_width, hull=use.hull
            )
        self.edges: EdgeVolume | None = None
        if config.edge_volume != "none":
            self.edges = EdgeVolume(self.correlate_quarter.groups, config.edge_volume)
        self.blend = DynamicCost() if config.patch_blend else None
        self.separable: MaskedSeparableAttention | None = None
        if use.separable:
            self.separable = MaskedSeparableAttention(eighth, config.heads)
        self.gaussians = GaussianHead(config.features) if config.gaussians else None
        self.monocular: SmallViT | PretrainedViT | None = None
        if config.monocular == "vit":
            self.monocular = SmallViT(
                alpha=use.alpha,
                tokens=use.tokens,
                background=use.background,
                groups=HeadGroups.of(HEADS) if use.patch_heads else None,
            )
        elif config.monocular == "pretrained":
            self.monocular = PretrainedViT(
                load_encoder(config.encoder),
                frozen=config.encoder_frozen,
                alpha=use.alpha,
                background=use.background,
            )
        if self.monocular is not None:
            self.from_monocular = zeroed(nn.Conv2d(self.monocular.channels, eighth, 1))

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        near: Tensor,
        far: Tensor,
        masks: Tensor | None = None,
        references: int | None = None,
        *,
        carve: bool = True,
        gaussians: bool = False,
        maps: Levels | None = None,
    ) -> MultiviewPrediction:
        """Depth of the first views, each matched with all others.

        Args:
            images: (B, V, 3, H, W) in [0, 1], V >= 1; H and W multiples of `STRIDE`.
            K: (B, V, 3, 3), pixels, the centre of the top-left one at (0.5, 0.5).
            cam_from_world: (B, V, 4, 4), OpenCV axes.
            near, far: (B, V), the range of each view's depth in the unit of the poses.
            masks: (B, V, 1, H, W) in [0, 1], 1 = evidence; a view of ones is unknown. None: ones.
            references: how many views; None: all.
            carve: the masks are of an object, and beside them it is not; else what they leave out
                may be anything.
            gaussians: make those of the views, too, if the network has a head for them.
            maps: (B V, C_i, H / 2^i, W / 2^i), the features of the views, if they are known from
                `look` and `listen`; None: those of views that all hear each other.

        Raises:
            ValueError: the size does not fit.
        """
        batch, views, _, height, width = images.shape
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f"Height and width must be multiples of {STRIDE}, got {height} x {width}."
            )
        count = views if references is None else references
        shape = (batch, count)
        rig = Rig(K, cam_from_world, near, far)
        told = Told.of(masks, self.config.masks, count, carve=carve)
        dead = None
        if maps is None:
            maps, dead = self._features(images, rig, told)
        first = Levels(
            *(torch.unflatten(x, 0, (batch, views))[:, :count].flatten(0, 1) for x in maps)
        )
        planes = inverse_depth_candidates(near, far, self.config.planes[0])[:, :count]
        rho = planes.flatten(0, 1)[..., None, None]
        low, high, step = rho[:, :1], rho[:, -1:], (rho[:, 1] - rho[:, 0])[:, None]
        logits, evidence, said = self._sweep(images, maps, first, rig, told, planes)
        coarse, sure = expectation(logits, rho, self.config.peak)
        coarse, sure = coarse[:, None], sure[:, None]
        pairs = [said]

        guides = self.guide_half(first.half, told.at(2, told.guide))
        both = guided_double(torch.cat((coarse, sure), dim=1), *guides)
        fine, sure = both[:, :1], both[:, 1:]
        if self.config.planes[1]:
            fine, said = self._refine(images, maps, rig, told, fine, step, shape)
            pairs.append(said)

        guides = self.guide_full(images[:, :count].flatten(0, 1), told.guide)
        full = guided_double(fine, *guides)
        change, features = self.residual(
            torch.cat((first.half, (fine - low) / (high - low)), dim=1),
            torch.cat((first.quarter, (coarse - low) / (high - low)), dim=1),
            first.eighth,
            told.own,
        )
        # At most a coarse step: where a correction left the range it would have no gradient back.
        full = (full + step * torch.tanh(change)).clamp(low, high)
        found = MultiviewPrediction(
            torch.unflatten(full[:, 0], 0, shape),
            (torch.unflatten(coarse[:, 0], 0, shape), torch.unflatten(fine[:, 0], 0, shape)),
            torch.unflatten(logits, 0, shape),
            torch.unflatten(sure[:, 0], 0, shape),
            torch.unflatten(evidence, 0, shape),
            torch.unflatten(features, 0, shape),
            pairs=tuple(each for each in pairs if each),
            dead=dead,
        )
        if self.gaussians is None or not gaussians:
            return found
        first_masks = None if masks is None else masks[:, :count]
        each = self.splats(images, found, K, cam_from_world, first_masks)
        samples = [each[start : start + count] for start in range(0, batch * count, count)]
        return found._replace(gaussians=tuple(map(_joined, samples)))

    def splats(
        self,
        images: Tensor,
        found: MultiviewPrediction,
        K: Tensor,
        cam_from_world: Tensor,
        masks: Tensor | None,
    ) -> list[Splats]:
        """The Gaussians of the R views of which depth was found, B R times H W.

        Args:
            images, K, cam_from_world: of at least these views, see `forward`.
            found: their depth, or a better one, and what was found with it.
            masks: (B, R, 1, H, W), see `forward`; None: ones.
        """
        assert self.gaussians is not None
        count = found.inverse_depth.shape[1]
        images, K, cam_from_world = (part[:, :count] for part in (images, K, cam_from_world))
        splats: list[Splats] = self.gaussians(
            images.flatten(0, 1),
            found.inverse_depth.flatten(0, 1)[:, None],
            found.probability.flatten(0, 1)[:, None],
            found.features.flatten(0, 1),
            agreement(found.inverse_depth, K, cam_from_world, masks),
            K.flatten(0, 1),
            cam_from_world.flatten(0, 1),
            None if masks is None else masks.flatten(0, 1),
        )
        return splats

    def look(
        self,
        images: Tensor,
        masks: Tensor | None,
        rig: Rig,
    ) -> Look:
        """Views seen alone. When `listen` has told them what others show, once for each block of
        attention, `Look.maps` are what `forward` takes as ``maps``: several references may share
        them.

        Args:
            images: (N, 3, H, W), see `forward`.
            masks: (N, 1, H, W); None: ones.
            rig: N cameras, (N, 3, 3) and so on.
        """
        maps, tokens = self._encoded(images, masks)
        return self._alone(Look(maps, tokens, rig))

    def listen(self, own: Look, others: Sequence[Look]) -> Look:
        """Views after one block more of attention, in which they hear others.

        Args:
            own: the N views that hear.
            others: whom they hear, each N views, of any size; they have heard as much so far.
        """
        lines = None
        if self.config.masks.attention == "epipolar" and own.tokens is not None:
            lines = [_epipolar_lines(own.rig, own.size, each.rig, each.size) for each in others]
        heard = [Tokens(other.maps.eighth, other.tokens) for other in others]
        eighth = self.transformer.together(
            own.heard, Tokens(own.maps.eighth, own.tokens), heard, lines
        )
        return self._alone(own._replace(maps=own.maps._replace(eighth=eighth), heard=own.heard + 1))

    def _alone(self, view: Look) -> Look:
        """Views on their way to the next block, or finished if there is none."""
        own = view.maps
        if view.heard == self.config.attention_blocks:
            return view._replace(maps=self._merged(own, own.eighth))
        eighth = self.transformer.alone(view.heard, Tokens(own.eighth, view.tokens))
        return view._replace(maps=own._replace(eighth=eighth))

    def _features(self, images: Tensor, rig: Rig, told: Told) -> tuple[Levels, Tensor | None]:
        """Features (B V, C, h, w) that know the other views, and what `Attended` has as dead."""
        batch, views = images.shape[:2]
        own, tokens = self._encoded(images.flatten(0, 1), told.all_views)
        lines = None
        if tokens is not None:
            tokens = torch.unflatten(tokens, 0, (batch, views))
            if self.config.masks.attention == "epipolar":
                size = (images.shape[-2] // 8, images.shape[-1] // 8)
                each = [rig.view(view) for view in range(views)]
                pairs = [_epipolar_lines(one, size, other, size) for one in each for other in each]
                lines = torch.unflatten(torch.stack(pairs, dim=1), 1, (views, views))
        attended = self.transformer(torch.unflatten(own.eighth, 0, (batch, views)), tokens, lines)
        return self._merged(own, attended.maps.flatten(0, 1)), attended.dead

    def _encoded(self, images: Tensor, masks: Tensor | None) -> tuple[Levels, Tensor | None]:
        """Features of views (N, 3, H, W) alone, and the masks that attention is told, if any."""
        height, width = images.shape[-2:]
        maps = self.pyramid(images, masks)
        eighth = maps.eighth
        if self.monocular is not None:
            eighth = eighth + self.from_monocular(self.monocular(images, masks)[-1])
        if self.separable is not None:
            eighth = self.separable(eighth, masks)
        tokens = None
        if masks is not None and self.config.masks.attention != "none":
            tokens = mask_confidence(masks, (height // 8, width // 8))
        return Levels(maps.half, maps.quarter, eighth), tokens

    def _merged(self, own: Levels, eighth: Tensor) -> Levels:
        """The finer features of views, told what the coarsest have heard."""
        up = F.interpolate(eighth, scale_factor=2, mode="bilinear")
        quarter = F.relu(self.merge_quarter(torch.cat((own.quarter, up), dim=1)))
        up = F.interpolate(quarter, scale_factor=2, mode="bilinear")
        half = F.relu(self.merge_half(torch.cat((own.half, up), dim=1)))
        return Levels(half, quarter, eighth)

    def _sweep(
        self,
        images: Tensor,
        maps: Levels,
        first: Levels,
        rig: Rig,
        told: Told,
        planes: Tensor,
    ) -> tuple[Tensor, Tensor, tuple[PairDepth, ...]]:
        """Logits (B R, D, h, w) of the planes (B, R, D) at 1/4, and the evidence of the best.

        And what each source alone says, as in `Volume`.
        """
        grey = F.avg_pool2d(images.flatten(0, 1).mean(dim=1, keepdim=True), 2)
        features = self.correlate_quarter.describe(maps.quarter, grey)
        features = torch.unflatten(features, 0, images.shape[:2])
        weight = told.trusted(4)
        volume: Volume = self.correlate_quarter(features, weight, rig, 4, planes)
        if self.edges is not None:
            volume = self.edges(volume, images, weight, rig, planes)
        if self.blend is not None:
            side = told.at(4, told.own)
            volume = volume._replace(similarity=self.blend(volume.similarity, side))
        logits = self.filter_quarter(told.carved(volume))
        up = F.interpolate(first.eighth, scale_factor=2, mode="bilinear")
        context = torch.cat((first.quarter, up), dim=1)
        logits = logits + self.regulariser(logits, context, told.at(4, told.own))
        best = logits.argmax(dim=1)[:, None]
        return logits, volume.evidence[:, 0].gather(1, best)[:, 0], volume.pairs

    def _refine(
        self,
        images: Tensor,
        maps: Levels,
        rig: Rig,
        told: Told,
        middle: Tensor,
        step: Tensor,
        shape: tuple[int, int],
    ) -> tuple[Tensor, tuple[PairDepth, ...]]:
        """Inverse depth (B R, 1, h, w) at 1/2, around ``middle`` of the same shape.

        And what each source alone says, as in `Volume`.
        """
        grey = images.flatten(0, 1).mean(dim=1, keepdim=True)
        features = self.correlate_half.describe(maps.half, grey)
        features = torch.unflatten(features, 0, images.shape[:2])
        offsets = torch.linspace(-1, 1, self.config.planes[1], device=middle.device)
        rho = middle + self.config.reach * step * offsets[:, None, None]
        volume: Volume = self.correlate_half(
            features, told.trusted(2), rig, 2, torch.unflatten(rho.detach(), 0, shape)
        )
        fine, _ = expectation(self.filter_half(told.carved(volume)), rho, 0)
        return fine[:, None], volume.pairs


def _check(config: MultiviewNetworkConfig) -> None:
    """Refuse switches of parts that the network has not."""
    use = config.masks
    for name, wanted, there in (
        ("tokens", use.tokens > 0, ("vit",)),
        ("patch_heads", use.patch_heads, ("vit",)),
        ("background", use.background, ("vit", "pretrained")),
    ):
        if wanted and config.monocular not in there:
            raise ValueError(
                f"masks.{name} is a switch of the monocular transformer, and monocular is "
                f"{config.monocular!r}; set monocular={there[0]}, or leave the switch alone."
            )
    if use.free_background and use.attention not in ("heads", "hard-heads"):
        raise ValueError(
            "masks.free_background is a switch of groups of heads, and masks.attention is "
            f"{use.attention!r}; set masks.attention=heads, or leave the switch alone."
        )


def _joined(views: Sequence[Splats]) -> Splats:
    """The Gaussians of all views."""
    return Splats(*(torch.cat(parts) for parts in zip(*(each[:5] for each in views), strict=True)))


def _epipolar_lines(
    rig: Rig, size: tuple[int, int], other: Rig, other_size: tuple[int, int]
) -> Tensor:
    """Which tokens at 1/8 of other views may show what tokens of views do: bool (N, n, m).

    The cameras are (N, ...), the sizes those of the maps of tokens.
    """
    own, keys = (token_centres(each, 8, rig.near.device) for each in (size, other_size))
    return epipolar_mask(
        own.expand(len(rig.near), -1, -1),
        keys.expand(len(rig.near), -1, -1),
        rig.K,
        other.K,
        rig.cam_from_world,
        other.cam_from_world,
        rig.near,
        rig.far,
        tolerance=8.0,
    )
