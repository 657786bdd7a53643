"""A fusion that was put down goes on as if it had not been."""

from pathlib import Path

import numpy as np
import pytest
import torch

from crispdepth.io.volumes import read_volume, write_volume
from crispdepth.ops.tsdf import TsdfVolume
from tests.analytic import around, sphere_depth

CPU = torch.device("cpu")


@pytest.mark.parametrize("max_memory", [None, 64 * 14 * 512])
def test_resuming_after_a_view_gives_the_same(tmp_path: Path, max_memory: int | None) -> None:
    cameras = around(4, 4.0)
    path = tmp_path / "half.tsdf"

    def add(volume: TsdfVolume, number: int) -> None:
        depth = torch.from_numpy(sphere_depth(cameras[number]))
        colour = torch.full((*depth.shape, 3), 50 * number, dtype=torch.uint8)
        volume.integrate(depth, (depth > 0).float(), colour, cameras[number])

    whole = TsdfVolume(0.05, 0.15, device=CPU)
    part = TsdfVolume(0.05, 0.15, device=CPU, max_memory=max_memory)
    for number in range(4):
        add(whole, number)
        add(part, number)
        write_volume(path, part)
        part = read_volume(path, device=CPU, max_memory=max_memory)
    assert len(whole.store) > 64
    for (keys, values), (other_keys, other) in zip(
        whole.store.batches(), part.store.batches(), strict=True
    ):
        assert torch.equal(keys, other_keys)
        for name, value in values.items():
            assert torch.equal(value, other[name]), name


def test_other_and_short_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tsdf"
    path.write_bytes(np.arange(9).tobytes())
    with pytest.raises(ValueError, match="no volume"):
        read_volume(path, device=CPU)
    volume = TsdfVolume(0.1, 0.3, device=CPU)
    camera = around(1, 4.0)[0]
    depth = torch.from_numpy(sphere_depth(camera))
    volume.integrate(depth, depth, torch.zeros((*depth.shape, 3), dtype=torch.uint8), camera)
    write_volume(path, volume)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        read_volume(path, device=CPU)
