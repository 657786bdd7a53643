"""Stages of a long job in a folder: each is done once, and again only if it would come out else."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crispdepth.io.atomic import make_folder, remove_stale, write_text

STATE = "state.json"


def key_of(*parts: object) -> str:
    """A short hash of JSON values, arrays among them; of anything else, as text."""

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(files: Iterable[Path]) -> str:
    """A hash of the names, sizes and times of files."""
    stats = ((file.name, file.stat()) for file in files)
    return key_of([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


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
                self._stages = json.loads(self._path.read_text("utf-8"))["stages"]
                for stage in self._stages.values():
                    str(stage["key"]), float(stage["seconds"]), stage["done"], stage["outputs"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
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

    def check(self, name: str, key: str, outputs: Iterable[str]) -> None:
        """Refuse a stage whose results would replace those of another key.

        Raises:
            ValueError: they are there, and are not to be overwritten.
        """
        stage = self._stages.get(name)
        there = any((self.folder / output).exists() for output in outputs)
        if there and not self._overwrite and (stage is None or stage["key"] != key):
            raise ValueError(
                f"{self.folder} holds the {name} of other photos or settings, or of another "
                "version; choose another folder, or replace it with --overwrite."
            )

    @contextmanager
    def begin(self, name: str, key: str, outputs: Iterable[str]) -> Iterator[bool]:
        """Do a stage; the value says whether it goes on with what an earlier run has begun.

        It is finished when the block ends without an error. Results of another key are refused,
        or with ``overwrite`` removed, before anything is done.

        Raises:
            ValueError: see `check`.
        """
        outputs, stage = list(outputs), self._stages.get(name)
        self.check(name, key, outputs)
        goes_on = stage is not None and stage["key"] == key
        if not goes_on:
            for path in (self.folder / output for output in outputs):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
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
