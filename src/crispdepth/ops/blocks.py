"""Blocks of voxels that exist only where they are needed, in memory or, beyond a budget, on disk.

A block is ``EDGE``^3 voxels; its place is an integer triple, its key that triple packed into one
int64. Keys sort like triples, so lookups are binary searches and never loops.
"""

import tempfile
import weakref
from collections.abc import Iterator, Mapping
from io import BufferedRandom
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

EDGE = 4
"""Voxels along the side of a block. The smaller, the more of a block a band of a few voxels about a
surface fills, but the more blocks there are to find: with 8 a frame took a fifth to a half longer,
and its blocks twice the memory."""

VOXELS = EDGE**3

_BITS = 20  # per coordinate of a key
_RANGE = 1 << (_BITS - 1)
_GROWTH = 1.5
_FEWEST = 1 << 14  # blocks to make room for


class Field(NamedTuple):
    """One quantity that every voxel holds; new voxels hold 0."""

    dtype: torch.dtype
    channels: int = 1


def pack(coordinates: Tensor) -> Tensor:
    """Keys (n,) int64 of blocks (n, 3) int64.

    Raises:
        ValueError: a block lies farther from the origin than keys can say.
    """
    if coordinates.numel() and int(coordinates.abs().max()) >= _RANGE:
        raise ValueError(
            f"A point lies {int(coordinates.abs().max()) * EDGE} voxels from the origin of the "
            f"world, and at most {_RANGE * EDGE} are possible. Move the scene to the origin, "
            "leave out what is far away, or take larger voxels."
        )
    x, y, z = (coordinates + _RANGE).unbind(-1)
    return (((x << _BITS) | y) << _BITS) | z


def unpack(keys: Tensor) -> Tensor:
    """The inverse of `pack`: (n, 3) int64."""
    part = (1 << _BITS) - 1
    return torch.stack([keys >> 2 * _BITS, (keys >> _BITS) & part, keys & part], -1) - _RANGE


class BlockStore:
    """A growing set of blocks with a bounded number of them in memory.

    Blocks that were not asked for the longest time go to one temporary file, which vanishes with
    the store; asked for again, they come back. Each spilled block keeps its place in that file.
    """

    def __init__(
        self, fields: Mapping[str, Field], device: torch.device, max_memory: int | None = None
    ) -> None:
        """An empty store.

        Args:
            fields: name -> what a voxel holds.
            device: where blocks in memory live.
            max_memory: bytes that the blocks in memory may take; None: no limit.

        Raises:
            ValueError: there would be no room for a few blocks.
        """
        self.fields = dict(fields)
        self.device = device
        self.block_bytes = sum(
            VOXELS * field.channels * field.dtype.itemsize for field in fields.values()
        )
        self._limit = None if max_memory is None else max_memory // self.block_bytes
        if self._limit is not None and self._limit < 64:
            raise ValueError(
                f"{max_memory} bytes hold {self._limit} blocks of {self.block_bytes} bytes; "
                f"at least {64 * self.block_bytes} bytes are needed."
            )
        self.data = {name: self._empty(field, 0) for name, field in fields.items()}
        self._keys = torch.empty(0, dtype=torch.int64, device=device)  # of all blocks, ascending
        self._slot = self._keys.int()  # in memory, -1 while on disk
        self._record = self._keys.int()  # in the file, -1 if never spilled
        self._asked = self._keys.int()  # when a block was last asked for
        self._clock = 0
        self._touched = 0  # slots that ever held a block; no memory is behind the others
        self._file: BufferedRandom | None = None
        self._records = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """Keys of all blocks, ascending, (n,) int64."""
        return self._keys

    @property
    def memory(self) -> int:
        """Bytes that the blocks in memory take, with those that have left their place to others."""
        return self._touched * self.block_bytes

    @property
    def group(self) -> int:
        """How many blocks may be asked for at once."""
        return 1 << 40 if self._limit is None else self._limit

    def slots(self, keys: Tensor) -> Tensor:
        """Where in ``data`` these blocks are; those that do not exist yet are made.

        The answer holds until the next call.

        Args:
            keys: (n,) int64, ascending and distinct, at most `group`.
        """
        assert len(keys) <= self.group
        self._clock += 1
        at = self._find(keys)
        missing = keys[at < 0]
        if len(missing):
            self._insert(missing)
            at = self._find(keys)
        self._asked[at] = self._clock
        absent = at[self._slot[at] < 0]
        if len(absent):
            self._bring(absent)
        return self._slot[at].long()

    def put(self, keys: Tensor, values: Mapping[str, Tensor]) -> None:
        """Set whole blocks, new ones or not.

        Args:
            keys: (n,) int64, ascending and distinct.
            values: of every field, (n, VOXELS[, channels]).
        """
        first = 0
        for group in torch.split(keys, self.group):
            slots = self.slots(group)
            for name, data in self.data.items():
                data[slots] = values[name][first : first + len(group)]
            first += len(group)

    def contains(self, keys: Tensor) -> Tensor:
        """Whether these blocks exist, (n,) bool."""
        return self._find(keys) >= 0

    def read(self, keys: Tensor) -> dict[str, Tensor]:
        """Copies of blocks that exist, (n, VOXELS[, channels]) each, wherever they are."""
        at = self._find(keys)
        slot = self._slot[at]
        here = slot >= 0
        values = {name: data[slot.clamp(min=0)] for name, data in self.data.items()}
        if not bool(here.all()):
            for name, value in self._load(self._record[at[~here]]).items():
                values[name][~here] = value
        return values

    def batches(self, size: int = 1024) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """All blocks in ascending order of keys, as (keys, copies of their values)."""
        for keys in torch.split(self._keys, size):
            yield keys, self.read(keys)

    @property
    def _capacity(self) -> int:
        return len(next(iter(self.data.values())))

    def _empty(self, field: Field, count: int) -> Tensor:
        shape = (count, VOXELS) if field.channels == 1 else (count, VOXELS, field.channels)
        if self.device.type == "cpu":  # NumPy's zeros take no memory until they are written
            return torch.from_numpy(
                np.zeros(shape, torch.empty(0, dtype=field.dtype).numpy().dtype)
            )
        return torch.zeros(shape, dtype=field.dtype, device=self.device)

    def _find(self, keys: Tensor) -> Tensor:
        """Positions in ``_keys``, -1 for those that are not there."""
        if not len(self._keys):
            return torch.full_like(keys, -1)
        at = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[at] == keys, at, -1)

    def _insert(self, keys: Tensor) -> None:
        """Merge new keys (ascending) into the lists, at a fraction of what sorting takes."""
        at = torch.searchsorted(self._keys, keys)
        at += torch.arange(len(keys), device=self.device)
        known = torch.ones(len(self._keys) + len(keys), dtype=torch.bool, device=self.device)
        known[at] = False
        new: dict[str, Tensor | int] = {
            "_keys": keys,
            "_slot": -1,
            "_record": -1,
            "_asked": self._clock,
        }
        for name, value in new.items():
            old: Tensor = getattr(self, name)
            merged = old.new_empty(len(known)).masked_scatter_(known, old)
            merged[at] = value
            setattr(self, name, merged)

    def _bring(self, at: Tensor) -> None:
        """Give blocks a place in memory, with what the file has of them."""
        free = self._free_slots(len(at))
        self._slot[at] = free
        record = self._record[at]
        for data in self.data.values():
            data[free] = 0
        spilled = record >= 0
        if bool(spilled.any()):
            for name, value in self._load(record[spilled]).items():
                self.data[name][free[spilled]] = value

    def _free_slots(self, count: int) -> Tensor:
        """Slots that hold no block, after growing and, beyond the limit, spilling; lowest first."""
        wanted = int((self._slot >= 0).sum()) + count
        if wanted > self._capacity:
            roomy = max(wanted, int(self._capacity * _GROWTH), _FEWEST)
            self._grow(roomy if self._limit is None else min(roomy, self._limit))
        if wanted > self._capacity:
            self._spill(wanted - self._capacity)
        free = torch.ones(self._capacity, dtype=torch.bool, device=self.device)
        free[self._slot[self._slot >= 0]] = False
        slots = torch.nonzero(free)[:count, 0].int()
        self._touched = max(self._touched, int(slots[-1]) + 1)
        return slots

    def _grow(self, capacity: int) -> None:
        for name, field in self.fields.items():  # one by one, so that only one is there twice
            data = self._empty(field, capacity)
            data[: self._touched] = self.data[name][: self._touched]
            self.data[name] = data

    def _spill(self, count: int) -> None:
        """Send at least ``count`` blocks to the file, those asked for the longest time ago."""
        here = torch.nonzero(self._slot >= 0)[:, 0]
        idle = here[self._asked[here] < self._clock]
        count = max(count, min(len(idle), self._capacity // 8))  # in few, large writes
        out = idle[torch.argsort(self._asked[idle], stable=True)[:count]]
        if self._file is None:
            # It lives as long as the store, so no block of `with` can hold it.
            self._file = tempfile.TemporaryFile(prefix="crispdepth-blocks-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        new = out[self._record[out] < 0]
        numbers = torch.arange(len(new), dtype=torch.int32, device=self.device)
        self._record[new] = numbers + self._records
        self._records += len(new)
        out = out[torch.argsort(self._record[out])]  # neighbours in the file are written together
        rows = torch.cat(
            [
                self.data[name][self._slot[out]].reshape(len(out), -1).view(torch.uint8)
                for name in self.fields
            ],
            1,
        ).cpu()
        for first, run in _runs(self._record[out]):
            self._file.seek(int(self._record[out[first]]) * self.block_bytes)
            self._file.write(rows[first : first + run].numpy().data)
        self._slot[out] = -1

    def _load(self, records: Tensor) -> dict[str, Tensor]:
        """The values of records, in their order."""
        assert self._file is not None
        order = torch.argsort(records)
        rows = torch.empty((len(records), self.block_bytes), dtype=torch.uint8)
        for first, run in _runs(records[order]):
            self._file.seek(int(records[order[first]]) * self.block_bytes)
            self._file.readinto(rows[first : first + run].numpy().data)
        rows = rows.to(self.device)[torch.argsort(order)]
        values, start = {}, 0
        for name, field in self.fields.items():
            size = VOXELS * field.channels * field.dtype.itemsize
            part = rows[:, start : start + size].contiguous().view(field.dtype)
            values[name] = part.reshape(self._empty(field, len(rows)).shape)
            start += size
        return values


def _runs(records: Tensor) -> Iterator[tuple[int, int]]:
    """(first, length) of the stretches of consecutive numbers in an ascending list."""
    breaks = torch.nonzero(records.diff() != 1)[:, 0] + 1
    starts = [0, *breaks.tolist()]
    for first, end in zip(starts, [*starts[1:], len(records)], strict=True):
        yield first, end - first
