"""The training of volumetric fusion: what each stage learns, that it learns, that it resumes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.data.volume_samples import VolumeSampler
from crispdepth.models.presets import VOLUME
from crispdepth.models.volume.config import FusionConfig, StereoConfig, VolumeNetworkConfig
from crispdepth.models.weights import load_stereo, load_volume, read_config
from crispdepth.training.config import FitConfig, VolumeObjective, VolumeStage
from crispdepth.training.export import export_run
from crispdepth.training.fit import LAST, Progress
from crispdepth.training.volume import SampleStream, VolumeTraining, train
from crispdepth.training.volume_batch import VolumeBatch, collate
from crispdepth.training.volume_held_out import held_out_figures
from crispdepth.training.volume_learner import VolumeAnswer, VolumeLearner, volume_losses
from tests.posed import ball_frames

SAMPLES = VolumeSampleConfig(
    volume=(16, 16, 8), voxel=(0.15, 0.25), size=(48, 64), views=(2, 3), synthetic=1
)
NETWORK = VolumeNetworkConfig(
    StereoConfig(channels=4, pyramid=(4, 4, 8), blocks=(1, 1, 1, 1), planes=8, width=2,
                 hourglasses=1),
    FusionConfig(width=4, hourglasses=1, embedding="tsdf", evidence=True, residual=True),
)  # fmt: skip
QUICK = FitConfig(steps=6, batch=1, lr=3e-3, warmup=1, ema=0.5, every=3, workers=0, cpu=True)


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    return [frame for scene in range(2) for frame in ball_frames(f"scene{scene}", 4)]


@pytest.fixture(scope="module")
def batch(frames: list[RgbdFrame]) -> VolumeBatch:
    sampler = VolumeSampler(frames, SAMPLES)
    return collate([sampler.draw(0, index, 3) for index in range(2)])


def learner(stage: VolumeStage = "fusion", **changes: Any) -> VolumeLearner:
    torch.manual_seed(0)
    objective = VolumeObjective(stage=stage, **changes)
    return VolumeLearner(NETWORK, objective)


def test_a_batch_is_its_samples(batch: VolumeBatch) -> None:
    model = learner().eval()
    with torch.no_grad():
        for parameter in model.fusion.heads[-1][-1].parameters():  # type: ignore[index]
            torch.nn.init.normal_(parameter, std=0.3)
        together = model(batch)
        singles = [model(VolumeBatch(*(part[i : i + 1] for part in batch))) for i in range(2)]
    assert not torch.equal(together.tsdf[-1], together.fused)
    for name in ("tsdf", "fused"):
        whole, parts = getattr(together, name), [getattr(each, name) for each in singles]
        if name == "tsdf":
            whole, parts = whole[-1], [each[-1] for each in parts]
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_a_fresh_residual_network_answers_with_the_fused_distance(batch: VolumeBatch) -> None:
    model = learner().eval()
    with torch.no_grad():
        answer = model(batch)
    assert answer.stereo is None
    assert answer.fused is not None
    assert torch.equal(answer.tsdf[-1], answer.fused)
    figures = held_out_figures([(answer, batch)])
    assert figures["l1"] == figures["l1_fused"] < 0.6
    assert figures["error"] == figures["l1"] + figures["l1_near"]


@pytest.mark.parametrize(
    ("stage", "parts", "learning"),
    [
        ("stereo", {"depth", "overlap"}, {"features", "filter"}),
        ("fusion", {"tsdf"}, {"features", "fusion"}),
        ("both", {"depth", "overlap", "tsdf"}, {"features", "filter", "fusion"}),
    ],
)
def test_a_stage_learns_its_parts(
    batch: VolumeBatch, stage: VolumeStage, parts: set[str], learning: set[str]
) -> None:
    model = learner(stage)
    for head in model.fusion.heads:  # a fresh residual head stops all gradients but its own
        torch.nn.init.normal_(head[-1].weight, std=0.1)  # type: ignore[index]
    losses = volume_losses(model(batch), batch, model.objective, log=False)
    assert losses.keys() == {"loss", *parts}
    torch.testing.assert_close(losses["loss"], torch.stack([losses[name] for name in parts]).sum())
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        if part == "stereo":
            part = "features" if name.startswith("stereo.features") else "filter"
        if parameter.grad is None:
            assert part not in learning, name
        else:
            assert part in learning, name
            assert parameter.grad.isfinite().all()


def test_end_to_end_the_distances_teach_the_stereo(batch: VolumeBatch) -> None:
    model = learner("both", depth=0.0, overlap=0.0, mask_source="predicted")
    volume_losses(model(batch), batch, model.objective, log=False)["loss"].backward()  # type: ignore[no-untyped-call]
    for head in (model.stereo.depth_head, model.stereo.overlap_head):
        gradient = head[-1].weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0  # type: ignore[operator]


def test_weights_scale_the_parts(batch: VolumeBatch) -> None:
    answer = learner("both")(batch)
    once = volume_losses(answer, batch, VolumeObjective(stage="both"), log=False)
    objective = VolumeObjective(stage="both", depth=2, overlap=2, tsdf=1)
    other = volume_losses(answer, batch, objective, log=False)
    torch.testing.assert_close(other["depth"], 2 * once["depth"])
    torch.testing.assert_close(other["overlap"], 4 * once["overlap"])
    torch.testing.assert_close(other["tsdf"], once["tsdf"] / 2)


def test_the_truth_loses_nothing_and_scores_full_marks(batch: VolumeBatch) -> None:
    answer = VolumeAnswer(None, (batch.tsdf,), batch.tsdf)
    for log in (False, True):
        assert volume_losses(answer, batch, VolumeObjective(), log=log)["loss"] == 0
    assert held_out_figures([(answer, batch)])["error"] == 0
    nothing = batch._replace(observed=torch.zeros_like(batch.observed))
    with pytest.raises(ValueError, match="nothing was observed"):
        held_out_figures([(answer, nothing)])


def test_without_trust_confidence_says_nothing(batch: VolumeBatch) -> None:
    less = batch._replace(confidence=batch.confidence * torch.rand_like(batch.confidence))
    with torch.no_grad():
        trusting, other = (learner().eval()(each).fused for each in (batch, less))
        blind, same = (learner(trust=False).eval()(each).fused for each in (batch, less))
    assert not torch.equal(trusting, other)
    assert torch.equal(blind, same)


Fit = Callable[..., Progress]


@pytest.fixture
def fit_tiny(frames: list[RgbdFrame], monkeypatch: pytest.MonkeyPatch) -> Fit:
    monkeypatch.setitem(VOLUME, "tiny", NETWORK)

    def run(
        folder: Path,
        *,
        stage: VolumeStage = "fusion",
        trust: bool = True,
        fit: FitConfig = QUICK,
        **more: Any,
    ) -> Progress:
        objective = VolumeObjective(stage=stage, trust=trust)
        training = VolumeTraining("tiny", NETWORK, SAMPLES, objective, fit)
        return train(training, frames[:4], frames[4:], folder, held_out_samples=2, **more)

    return run


def test_stopped_and_resumed_it_ends_as_if_it_had_run_through(
    fit_tiny: Fit, tmp_path: Path
) -> None:
    whole = fit_tiny(tmp_path / "whole")
    stops = iter([False, True])
    fit_tiny(tmp_path / "parts", stop=lambda: next(stops, False))
    resumed = fit_tiny(tmp_path / "parts")
    assert resumed.held_out == whole.held_out
    torch.testing.assert_close(*(load_file(tmp_path / name / LAST) for name in ("whole", "parts")))


def test_a_stage_starts_from_another_and_ends_as_weights(fit_tiny: Fit, tmp_path: Path) -> None:
    short = replace(QUICK, steps=1, every=1)
    first = fit_tiny(tmp_path / "stereo", stage="stereo", fit=short)
    assert "abs_rel" in first.held_out
    end = fit_tiny(tmp_path / "both", stage="both", fit=short, init=tmp_path / "stereo")
    assert {"abs_rel", "l1"} <= end.held_out.keys()
    export_run(tmp_path / "both", tmp_path / "weights")
    network = load_volume(tmp_path / "weights")
    assert network.config == NETWORK
    assert not network.training
    config = read_config(tmp_path / "weights")
    assert config["training"]["init"] == "stereo"
    assert config["training"]["objective"]["stage"] == "both"
    assert load_stereo(tmp_path / "weights").config == NETWORK.stereo
    # And another run starts from the weights: while it learns nothing it is what they are.
    still = replace(short, lr=1e-12)
    fit_tiny(tmp_path / "again", stage="both", fit=still, init=tmp_path / "weights")
    again = load_file(tmp_path / "again" / "best.safetensors")
    for name, weight in network.named_parameters():
        torch.testing.assert_close(again[name], weight.detach())
    with pytest.raises(ValueError, match="take --preset volume-small, and no"):
        fit_tiny(tmp_path / "other", fit=still, init=Path("volume-small"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / LAST).touch()
    with pytest.raises(FileNotFoundError, match="stopped before its first evaluation"):
        fit_tiny(tmp_path / "third", fit=still, init=tmp_path / "begun")
    trained = load_file(tmp_path / "both" / "best.safetensors")
    for name, value in network.state_dict().items():
        expected = (
            trained[name].half().to(value.dtype) if value.is_floating_point() else trained[name]
        )
        torch.testing.assert_close(value, expected)


def test_a_part_that_was_not_trained_is_not_used(fit_tiny: Fit, tmp_path: Path) -> None:
    short = replace(QUICK, steps=1, every=1)
    stages: tuple[VolumeStage, ...] = ("stereo", "fusion")
    for stage in stages:
        fit_tiny(tmp_path / stage, stage=stage, fit=short)
        export_run(tmp_path / stage, tmp_path / f"{stage}-weights")
    load_stereo(tmp_path / "stereo-weights")
    load_volume(tmp_path / "fusion-weights")
    with pytest.raises(ValueError, match=r"--stage stereo, which did not teach the fusion"):
        load_volume(tmp_path / "stereo-weights")
    with pytest.raises(ValueError, match=r"take some of --stage stereo or --stage both"):
        load_stereo(tmp_path / "fusion-weights")


def test_weights_that_would_be_used_otherwise_than_trained_are_not_exported(
    fit_tiny: Fit, tmp_path: Path
) -> None:
    short = replace(QUICK, steps=1, every=1)
    fit_tiny(tmp_path / "blind", trust=False, fit=short)
    with pytest.raises(ValueError, match="fuse all depths alike"):
        export_run(tmp_path / "blind", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_depths_of_other_data_are_refused(fit_tiny: Fit, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no depth of any of the 1 scenes"):
        fit_tiny(tmp_path / "run", depths=[tmp_path])


def test_steps_have_their_numbers_of_views(frames: list[RgbdFrame]) -> None:
    training = VolumeTraining("tiny", NETWORK, SAMPLES, VolumeObjective(), QUICK)
    stream = SampleStream(VolumeSampler(frames, SAMPLES), training)
    counts = {len(stream[index].images) for index in range(8)}
    assert counts == {2, 3}
