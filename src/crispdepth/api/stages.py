"""Stages of a long job in a folder: each is done once, and again only if it would come out else."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crispdepth.io.atomic import make_folder, remove_stale, write_text

STATE = "state.json"


def key_of(*parts: object) -> str:
    """A short hash of JSON values (and paths, as text)."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(*places: Path) -> str:
    """A hash of the names, sizes and times of all files in folders; or of a file."""
    rows = []
    for place in places:
        files: Iterable[Path] = sorted(place.rglob("*")) if place.is_dir() else (place,)
        for file in files:
            if file.is_file():
                stat = file.stat()
                name = str(file.relative_to(place)) if place.is_dir() else file.name
                rows.append((name, stat.st_size, stat.st_mtime_ns))
    return key_of(rows)


class Stages:
    """What has been done in a folder, remembered in its ``state.json``."""

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        """Open the folder, making it if need be; see `begin` for ``overwrite``.

        Raises:
            OSError: it cannot be made or read.
            ValueError: its ``state.json`` is damaged.
        """
        self.folder, self._overwrite = folder, overwrite
        make_folder(folder)
        remove_stale(folder)
        self._path = folder / STATE
        self._stages: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            try:
                self._stages = dict(json.loads(self._path.read_text("utf-8"))["stages"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self._path} is damaged: remove it, or choose another folder."
                ) from error

    def is_done(self, name: str, key: str) -> bool:
        """Whether the stage is finished, with that key, and its files are still there."""
        stage = self._stages.get(name)
        return (
            stage is not None
            and stage["key"] == key
            and bool(stage["done"])
            and all((self.folder / output).exists() for output in stage["outputs"])
        )

    def seconds(self, name: str) -> float:
        """How long the stage took, over all runs; 0 if it was not done."""
        return float(self._stages.get(name, {}).get("seconds", 0.0))

    @contextmanager
    def begin(self, name: str, key: str, outputs: Iterable[str]) -> Iterator[bool]:
        """Do a stage; the value says whether it goes on with what an earlier run has begun.

        It is finished when the block ends without an error. Results made with another key are
        refused, or with ``overwrite`` given up, before anything is done.

        Raises:
            ValueError: the folder holds results of other photos or settings.
        """
        outputs, stage = list(outputs), self._stages.get(name)
        if stage is not None and stage["key"] != key and not self._overwrite:
            raise ValueError(
                f"{self.folder} holds the {name} of other photos or settings; choose another "
                "folder, or replace it with --overwrite."
            )
        goes_on = stage is not None and stage["key"] == key and not self._overwrite
        before = self.seconds(name) if goes_on else 0.0
        self._set(name, key, outputs, before, done=False)
        start = time.monotonic()
        try:
            yield goes_on
        except BaseException:
            self._set(name, key, outputs, before + time.monotonic() - start, done=False)
            raise
        self._set(name, key, outputs, before + time.monotonic() - start, done=True)

    def _set(self, name: str, key: str, outputs: list[str], seconds: float, *, done: bool) -> None:
        self._stages[name] = {
            "key": key,
            "done": done,
            "seconds": round(seconds, 3),
            "outputs": outputs,
        }
        write_text(self._path, json.dumps({"stages": self._stages}, indent=2) + "\n")
