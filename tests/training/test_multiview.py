"""The multi-view network's training: what a step is given, what it loses, that it learns."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import MultiviewSampler
from crispdepth.models.multiview.config import MaskUse, MultiviewNetworkConfig
from crispdepth.models.multiview.network import MultiviewNetwork, MultiviewPrediction
from crispdepth.ops.splat import Splats
from crispdepth.training.config import (
    FitConfig,
    MultiviewObjective,
    MultiviewStage,
    parse_curriculum,
)
from crispdepth.training.fit import LAST, Progress
from crispdepth.training.multiview import (
    MultiviewRecipe,
    MultiviewTraining,
    SampleStream,
    depth_losses,
    predict,
    train,
)
from crispdepth.training.multiview_batch import MultiviewBatch, collate, first_views
from crispdepth.training.multiview_held_out import held_out_figures
from crispdepth.training.multiview_losses import coarse_truth, inverse_depth_loss
from crispdepth.training.multiview_rendering import rendering_losses
from tests.posed import ball_frames

EASY = MultiviewSampleConfig(zoom=0.9, wrong=0, incomplete=0, untold=0, colour=0)
QUICK = FitConfig(steps=8, batch=2, lr=2e-3, warmup=2, ema=0.8, every=4, workers=0)
STAGE = MultiviewStage(1, (32, 32), (2, 2), 2)
OBJECTIVE = MultiviewObjective()
NETWORK = MultiviewNetworkConfig(
    widths=(8, 16, 32),
    attention_blocks=1,
    planes=(16, 4),
    filter_width=4,
    unet_width=8,
    features=8,
)


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    return [
        frame for scene in range(3) for frame in ball_frames(f"scene{scene}", 4, masks=scene == 1)
    ]


def batch_of(frames: list[RgbdFrame], count: int = 6) -> MultiviewBatch:
    sampler = MultiviewSampler(frames, replace(EASY, masked_others=0.5))
    return collate([sampler.draw(3, index, (32, 64), 3) for index in range(count)])


def oracle(batch: MultiviewBatch) -> MultiviewPrediction:
    """The truth; in the middle of the range where there is none."""
    middle = 0.5 * (1 / batch.near + 1 / batch.far)[..., None, None]
    valid = batch.depth > 0
    inverse = torch.where(valid, 1 / batch.depth, middle)
    coarse = [coarse_truth(inverse, valid, stride)[0] for stride in (4, 2)]
    logits = torch.zeros(*coarse[0].shape[:2], 8, *coarse[0].shape[2:])
    ones = torch.ones_like(coarse[0])
    features = ones[:, :, None]
    return MultiviewPrediction(inverse, (coarse[0], coarse[1]), logits, ones, ones, features)


def test_a_batch_holds_the_samples_as_they_are(frames: list[RgbdFrame]) -> None:
    sampler = MultiviewSampler(frames, EASY)
    samples = [sampler.draw(0, index, (32, 64), 3) for index in range(2)]
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 3, 32, 64)
    assert batch.images.dtype == torch.uint8
    assert torch.equal(batch.images[1, 2], torch.from_numpy(samples[1].images[2]).permute(2, 0, 1))
    assert batch.masks.shape == batch.alpha.shape == (2, 3, 1, 32, 64)
    assert torch.equal(batch.depth[1], torch.from_numpy(samples[1].depth))


def test_more_references_than_views_are_all_views(frames: list[RgbdFrame]) -> None:
    batch = first_views(batch_of(frames, 1), 2)
    torch.manual_seed(0)
    network = MultiviewNetwork(NETWORK).eval()
    with torch.no_grad():
        every, more = predict(network, batch), predict(network, batch, 3)
        one = predict(network, batch, 1)
    assert every.inverse_depth.shape[1] == 2
    assert torch.equal(more.inverse_depth, every.inverse_depth)
    torch.testing.assert_close(one.inverse_depth, every.inverse_depth[:, :1])


def test_the_truth_loses_nothing_but_its_planes(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames)
    losses = depth_losses(oracle(batch), batch, OBJECTIVE)
    assert [*losses] == ["loss", "depth", "gradient", "coarse_1", "planes", "coarse_2"]
    parts = [value for name, value in losses.items() if name != "loss"]
    torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())
    for name in ("depth", "gradient", "coarse_1", "coarse_2"):
        assert losses[name] < 1e-5


def test_coarser_predictions_count_less(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames)
    truth = oracle(batch)
    shift = 0.1 * (1 / batch.near - 1 / batch.far)[..., None, None]
    low, high = (part + shift for part in truth.coarse)
    off = truth._replace(inverse_depth=truth.inverse_depth + shift, coarse=(low, high))
    losses = depth_losses(off, batch, replace(OBJECTIVE, gamma=0.5))
    assert losses["depth"].item() == pytest.approx(0.1, rel=1e-4)
    assert losses["coarse_2"].item() == pytest.approx(0.05, rel=1e-4)
    assert losses["coarse_1"].item() == pytest.approx(0.025, rel=1e-4)


def test_outlines_count_more_and_what_is_beside_the_object_less(frames: list[RgbdFrame]) -> None:
    sampler = MultiviewSampler(frames[4:8], replace(EASY, masked_objects=1, rgba=0, object_range=0))
    batch = collate([sampler.draw(0, index, (32, 64), 2) for index in range(4)])
    truth = oracle(batch)
    shift = 0.1 * (1 / batch.near - 1 / batch.far)[..., None, None]
    inside = batch.alpha[:, :, 0] > 0.5

    def lost(where: Tensor, *, edge: float = 5, outside: float = 0.2) -> float:
        changed = replace(OBJECTIVE, edge=edge, outside=outside)
        off = truth._replace(inverse_depth=truth.inverse_depth + shift * where)
        return depth_losses(off, batch, changed)["depth"].item()

    assert lost(~inside, edge=0, outside=0) < 0.05 * lost(~inside, edge=0, outside=1)
    near = torch.nn.functional.max_pool2d(1.0 * inside, 3, 1, 1) > 0
    near &= torch.nn.functional.max_pool2d(1.0 * ~inside, 3, 1, 1) > 0
    assert lost(near, edge=10) > 1.5 * lost(near, edge=0)


def test_without_an_outline_or_its_weight_all_that_was_measured_counts_alike(
    frames: list[RgbdFrame],
) -> None:
    batch = batch_of(frames)
    truth = oracle(batch)
    noise = torch.rand(truth.inverse_depth.shape, generator=torch.Generator().manual_seed(0))
    off = truth._replace(inverse_depth=truth.inverse_depth * (1 + 0.2 * noise))

    def lost(alpha: Tensor, edge: float) -> float:
        objective = replace(OBJECTIVE, edge=edge, outside=1)
        return depth_losses(off, batch._replace(alpha=alpha), objective)["depth"].item()

    measured, span = batch.depth > 0, 1 / batch.near - 1 / batch.far
    target = 1 / batch.depth.clamp(min=1e-6)
    plain = inverse_depth_loss(off.inverse_depth, target, measured.float(), span).item()
    for level in (0.0, 1.0):
        for edge in (0.0, 10.0):
            assert lost(torch.full_like(batch.alpha, level), edge) == pytest.approx(plain)
    assert lost(batch.alpha, 0) == pytest.approx(plain)
    assert lost(batch.alpha, 10) != pytest.approx(plain, rel=1e-4)


def test_only_views_that_were_asked_for_are_judged(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames)
    truth = oracle(batch)
    first = MultiviewPrediction(
        truth.inverse_depth[:, :1],
        (truth.coarse[0][:, :1], truth.coarse[1][:, :1]),
        truth.logits[:, :1],
        truth.probability[:, :1],
        truth.evidence[:, :1],
        truth.features[:, :1],
    )
    assert depth_losses(first, batch, OBJECTIVE)["depth"] < 1e-6


def test_the_truth_scores_full_marks(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames, 12)
    figures = held_out_figures([(oracle(batch).inverse_depth, batch)])
    for kind in ("scene", "object", "rgba"):
        assert figures[f"{kind}_abs_rel"] < 1e-5
        assert figures[f"{kind}_delta1"] == 1
    assert "scene_band" not in figures
    assert figures["error"] < 1e-5
    off = held_out_figures([(oracle(batch).inverse_depth / 1.1, batch)])
    assert off["object_abs_rel"] == pytest.approx(0.1, rel=1e-4)
    assert off["object_band"] == pytest.approx(0.1, rel=1e-4)
    assert off["error"] == pytest.approx(0.1, rel=1e-4)


def test_without_any_depth_there_are_no_figures(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames, 2)
    blind = batch._replace(depth=torch.zeros_like(batch.depth))
    with pytest.raises(ValueError, match="no depth was measured"):
        held_out_figures([(oracle(batch).inverse_depth, blind)])


class Ball(nn.Module):
    """Says the truth of a batch and, if there are any, shows Gaussians."""

    def __init__(self, batch: MultiviewBatch, gaussians: tuple[Splats, ...]) -> None:
        super().__init__()
        self.batch, self.gaussians = batch, gaussians

    def forward(self, *inputs: Tensor, gaussians: bool) -> MultiviewPrediction:
        return oracle(self.batch)._replace(gaussians=self.gaussians if gaussians else ())


def test_gaussians_lose_what_they_show_wrongly(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames, 2)
    fit = replace(QUICK, batch=2)
    training = MultiviewTraining(
        "tiny", NETWORK, EASY, (STAGE,), replace(OBJECTIVE, rendering=2), fit
    )
    recipe = MultiviewRecipe(MultiviewSampler(frames, EASY), training, [])
    straight = torch.tensor([[1.0, 0, 0, 0]])
    blob = Splats(
        torch.tensor([[0.0, 0, 5]]), torch.ones(1, 3), straight, torch.ones(1) / 2,
        torch.zeros(1, 1, 3),
    )  # fmt: skip
    losses = recipe.losses(Ball(batch, (blob, blob)), batch)
    shown = rendering_losses([blob, blob], batch, torch.full((3,), 0.5))
    torch.testing.assert_close(losses["render_alpha"], 2 * shown["render_alpha"])
    parts = [value for name, value in losses.items() if name != "loss"]
    torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())
    with pytest.raises(ValueError, match="--rendering 2: the network of the preset tiny makes no"):
        recipe.losses(Ball(batch, ()), batch)


def recipe_of(
    frames: list[RgbdFrame], objective: MultiviewObjective, network: MultiviewNetworkConfig
) -> MultiviewRecipe:
    training = MultiviewTraining("tiny", network, EASY, (STAGE,), objective, QUICK)
    return MultiviewRecipe(MultiviewSampler(frames, EASY), training, [])


def test_pairs_are_judged_where_the_network_asks_how_sure_they_are(
    frames: list[RgbdFrame],
) -> None:
    batch = batch_of(frames, 2)
    network = MultiviewNetwork(replace(NETWORK, uncertainty=True))
    losses = recipe_of(frames, replace(OBJECTIVE, pairs=2), network.config).losses(network, batch)
    once = recipe_of(frames, replace(OBJECTIVE, pairs=1), network.config).losses(network, batch)
    for name in ("pairs_1", "pairs_2"):
        torch.testing.assert_close(losses[name], 2 * once[name])
    parts = [value for name, value in losses.items() if name != "loss"]
    torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    for level in (network.correlate_quarter, network.correlate_half):
        assert level.trust.uncertainty is not None
        gradient = level.trust.uncertainty.last.weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0
    with pytest.raises(ValueError, match=r"--pairs 2: .* --network uncertainty=true"):
        recipe_of(frames, replace(OBJECTIVE, pairs=2), NETWORK).losses(
            MultiviewNetwork(NETWORK), batch
        )


def test_depth_of_another_scale_is_enough_for_the_loss_up_to_scale_and_shift(
    frames: list[RgbdFrame],
) -> None:
    batch = batch_of(frames)
    truth = oracle(batch)
    shape = replace(OBJECTIVE, depth=0, gradient=0, planes=0, scale_shift=1)
    # inverse depth that is scaled and shifted, within the range of each view
    middle = 1 / batch.far[..., None, None]
    other = truth._replace(inverse_depth=0.3 * truth.inverse_depth + 0.2 * middle)
    assert depth_losses(truth, batch, shape)["loss"] < 1e-5
    assert depth_losses(other, batch, shape)["loss"] < 1e-5
    assert depth_losses(other, batch, OBJECTIVE)["depth"] > 0.01
    wrong = truth._replace(inverse_depth=truth.inverse_depth.flip(-1))
    losses = depth_losses(wrong, batch, shape)
    assert losses["loss"] > 0.01
    twice = depth_losses(wrong, batch, replace(shape, scale_shift=2))
    torch.testing.assert_close(twice["scale_shift"], 2 * losses["scale_shift"])


def test_dead_rows_of_epipolar_attention_are_logged_and_are_no_loss(
    frames: list[RgbdFrame],
) -> None:
    batch = batch_of(frames, 2)
    config = replace(NETWORK, masks=MaskUse(attention="epipolar"))
    losses = recipe_of(frames, OBJECTIVE, config).losses(MultiviewNetwork(config), batch)
    assert 0 <= losses["dead_rows"] <= 1
    parts = [value for name, value in losses.items() if name not in ("loss", "dead_rows")]
    torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())


def test_gaussians_learn_whose_they_are(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames, 2)
    config = replace(NETWORK, gaussians=True)
    torch.manual_seed(0)
    network = MultiviewNetwork(config)
    objective = replace(OBJECTIVE, objects=0.5, rendered_views=1)
    losses = recipe_of(frames, objective, config).losses(network, batch)
    assert losses["render_objects"] > 0
    assert losses["render_colour"] == losses["render_alpha"] == 0
    (gradient,) = torch.autograd.grad(losses["render_objects"], [network.residual.leave.weight])
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    with pytest.raises(
        ValueError, match=r"--objects 0\.5: the network of the preset tiny makes no"
    ):
        recipe_of(frames, objective, NETWORK).losses(MultiviewNetwork(NETWORK), batch)


class Witness(nn.Module):
    """Says the truth of the views that it is shown, and keeps them."""

    def __init__(self, batch: MultiviewBatch) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, images: Tensor, *inputs: Tensor, gaussians: bool) -> MultiviewPrediction:
        self.images = images
        return oracle(first_views(self.batch, images.shape[1]))


def test_the_network_is_not_shown_the_views_that_are_held_back(frames: list[RgbdFrame]) -> None:
    batch = batch_of(frames, 2)
    three = MultiviewStage(1, (32, 32), (3, 3), 2)
    objective = replace(OBJECTIVE, held_back=1)
    training = MultiviewTraining("tiny", NETWORK, EASY, (three,), objective, QUICK)
    recipe, network = MultiviewRecipe(MultiviewSampler(frames, EASY), training, []), Witness(batch)
    assert recipe.losses(network, batch)["depth"] < 1e-5
    assert torch.equal(network.images, batch.images[:, :2].float() / 255)
    with pytest.raises(ValueError, match="Of samples of 2 views 1 cannot be held back"):
        MultiviewTraining("tiny", NETWORK, EASY, (STAGE,), objective, QUICK)


def test_steps_go_through_the_stages_by_their_shares(frames: list[RgbdFrame]) -> None:
    stages = parse_curriculum("3 32x32 2 4, 1 32x64 2-4 1")
    assert stages == (
        MultiviewStage(3, (32, 32), (2, 2), 4),
        MultiviewStage(1, (32, 64), (2, 4), 1),
    )
    training = MultiviewTraining(
        "tiny", NETWORK, EASY, stages, OBJECTIVE, replace(QUICK, batch=4, steps=40)
    )
    assert [training.stage(step) for step in (0, 29)] == [stages[0]] * 2
    assert [training.stage(step) for step in (30, 39)] == [stages[1]] * 2
    assert {training.views(step) for step in range(30)} == {2}
    assert {training.views(step) for step in range(30, 40)} == {2, 3, 4}
    stream = SampleStream(MultiviewSampler(frames, EASY), training)
    assert stream[4 * 29 + 3].images.shape == (2, 32, 32, 3)
    assert stream[4 * 30].images.shape == (training.views(30), 32, 64, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5 192x256 3", "A stage reads SHARE HEIGHTxWIDTH VIEWS BATCH"),
        ("0.5 100x256 3 4", "multiples of 32, got 100 x 256"),
        ("0 64x64 3 4", "share above 0"),
        ("1 64x64 1 4", "Two views or more"),
        ("1 64x64 4-3 4", "Two views or more"),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_curriculum(text)


def test_the_batch_is_that_of_the_largest_stage() -> None:
    with pytest.raises(ValueError, match="largest stage, 2, got 3"):
        MultiviewTraining("tiny", NETWORK, EASY, (STAGE,), OBJECTIVE, replace(QUICK, batch=3))


Fit = Callable[..., list[Progress]]


@pytest.fixture(scope="module")
def fit_tiny(frames: list[RgbdFrame]) -> Fit:
    """Train the miniature network; returns the reports of the evaluations."""

    def start(
        run: Path,
        fit: FitConfig = QUICK,
        stages: tuple[MultiviewStage, ...] = (STAGE,),
        init: Path | None = None,
        stop_at: int = 10**6,
    ) -> list[Progress]:
        reports: list[Progress] = []
        steps = iter(range(1, 10**6))
        train(
            MultiviewTraining("tiny", NETWORK, EASY, stages, OBJECTIVE, fit),
            frames[:8],
            frames[8:],
            run,
            init=init,
            held_out_samples=4,
            report=reports.append,
            stop=lambda: next(steps) == stop_at,
        )
        return [report for report in reports if report.held_out]

    return start


def test_a_network_learns_a_batch(frames: list[RgbdFrame]) -> None:
    sampler = MultiviewSampler(frames, EASY)
    batch = collate([sampler.draw(0, index, (32, 32), 2) for index in range(2)])
    torch.manual_seed(0)
    network = MultiviewNetwork(NETWORK)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    course = []
    for _ in range(20):
        losses = depth_losses(predict(network, batch), batch, OBJECTIVE)
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        course.append({name: value.item() for name, value in losses.items()})
    first, last = course[0], course[-1]
    assert last["loss"] < 0.75 * first["loss"]
    assert last["depth"] < 0.8 * first["depth"]


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path, fit_tiny: Fit) -> None:
    (trained,) = fit_tiny(tmp_path / "one", replace(QUICK, steps=4, lr=0.02))
    still = replace(QUICK, steps=1, lr=1e-12)  # as good as not trained
    (begun,) = fit_tiny(tmp_path / "two", still, init=tmp_path / "one")
    (fresh,) = fit_tiny(tmp_path / "three", still)
    assert begun.held_out["error"] == pytest.approx(trained.held_out["error"], rel=1e-4)
    assert fresh.held_out["error"] != pytest.approx(trained.held_out["error"], rel=1e-3)


def test_stopped_and_resumed_it_ends_as_if_it_had_run_through(
    tmp_path: Path, fit_tiny: Fit
) -> None:
    stages = (replace(STAGE, batch=1, views=(2, 3)), STAGE)
    short = replace(QUICK, steps=4, every=2)
    fit_tiny(tmp_path / "through", short, stages)
    fit_tiny(tmp_path / "resumed", short, stages, stop_at=1)
    fit_tiny(tmp_path / "resumed", short, stages)
    states = [load_file(tmp_path / name / LAST) for name in ("through", "resumed")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_stages_with_more_views_than_there_are_end_at_once(tmp_path: Path, fit_tiny: Fit) -> None:
    with pytest.raises(ValueError, match="No scene has 5 posed views, the most are 4"):
        fit_tiny(tmp_path, stages=(replace(STAGE, views=(2, 5)),))


def gaussian_training(only: tuple[str, ...]) -> MultiviewTraining:
    network = replace(NETWORK, gaussians=True)
    objective = replace(OBJECTIVE, rendering=1, rendered_views=1, held_back=1)
    stage, fit = replace(STAGE, views=(3, 3), batch=1), replace(QUICK, batch=1, steps=3, every=3)
    return MultiviewTraining("tiny", network, EASY, (stage,), objective, fit, only)


def test_only_the_parts_that_are_named_learn(frames: list[RgbdFrame], tmp_path: Path) -> None:
    reports: list[Progress] = []
    train(
        gaussian_training(("gaussians",)), frames[:8], frames[8:], tmp_path, held_out_samples=2,
        report=reports.append,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(QUICK.seed)
        first = MultiviewNetwork(replace(NETWORK, gaussians=True)).state_dict()
    last = load_file(tmp_path / LAST)
    for name, before in first.items():
        for part in ("model", "ema.module"):
            learned = not torch.equal(last[f"{part}.{name}"], before)
            assert learned == name.startswith("gaussians."), name
    optimised = {name.split(".")[1] for name in last if name.startswith("optimizer.")}
    assert len(optimised) == len([name for name in first if name.startswith("gaussians.")])
    held_out = reports[-1].held_out
    depth_errors = [held_out["scene_abs_rel"]] + [
        value for name, value in held_out.items() if name.endswith(("t_abs_rel", "band"))
    ]
    rendered = held_out["render_colour"] + held_out["render_alpha"]
    assert held_out["error"] == pytest.approx(sum(depth_errors) / len(depth_errors) + rendered)


def test_parts_that_are_not_there_cannot_learn(frames: list[RgbdFrame], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--only splats: the network has no such part"):
        train(gaussian_training(("splats",)), frames[:8], frames[8:], tmp_path)
