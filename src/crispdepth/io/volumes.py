"""Files of TSDF volumes, so that a fusion can go on where it stopped.

One line of JSON (voxel size, truncation, colours, number of blocks), then batches of blocks: the
keys as int64, then each field of all blocks of the batch, little-endian.
"""

import json
import math
from pathlib import Path

import torch

from crispdepth.io.atomic import atomic_path
from crispdepth.ops.tsdf import TsdfVolume

_FORMAT = "crispdepth tsdf 2"
_BATCH = 1024  # blocks


def write_volume(path: str | Path, volume: TsdfVolume) -> None:
    """Write a volume, atomically and block by block, wherever its blocks are.

    Raises:
        OSError: the file cannot be written.
    """
    head = {
        "format": _FORMAT,
        "voxel_size": volume.voxel_size,
        "truncation": volume.truncation,
        "coloured": volume.coloured,
        "blocks": len(volume.store),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        for keys, values in volume.store.batches(_BATCH):
            file.write(keys.cpu().numpy().tobytes())
            for value in values.values():
                file.write(value.cpu().numpy().tobytes())


def read_volume(
    path: str | Path, *, device: torch.device, max_memory: int | None = None
) -> TsdfVolume:
    """The volume in a file, bit for bit as it was written.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no volume, or it is cut short.
    """
    with Path(path).open("rb") as file:
        try:
            head = json.loads(file.readline(4096))
            known = head["format"] == _FORMAT
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ValueError(f"{path} is no volume of this program ({_FORMAT!r} was expected).")
        volume = TsdfVolume(
            head["voxel_size"],
            head["truncation"],
            device=device,
            coloured=head["coloured"],
            max_memory=max_memory,
        )
        left = head["blocks"]
        while left:
            count = min(left, _BATCH)
            size = count * (8 + volume.store.block_bytes)
            data = bytearray(file.read(size))
            if len(data) < size:
                raise ValueError(f"{path} is cut short: {left} of {head['blocks']} blocks miss.")
            keys = torch.frombuffer(data, dtype=torch.int64, count=count)
            volume.store.put(keys.to(device), _fields(volume, data, count))
            left -= count
    return volume


def _fields(volume: TsdfVolume, data: bytearray, count: int) -> dict[str, torch.Tensor]:
    values, start = {}, 8 * count
    for name, like in volume.store.data.items():
        shape = (count, *like.shape[1:])
        part = torch.frombuffer(data, dtype=like.dtype, count=math.prod(shape), offset=start)
        values[name] = part.reshape(shape).to(volume.device)
        start += part.nbytes
    return values
