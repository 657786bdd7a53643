"""Doing many photos: what is done already, one photo's failure, and the way to carry on."""

import errno
import hashlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from crispdepth.cli.errors import KNOWN_ERRORS, UsageError, one_line
from crispdepth.io.naming import White

Stamps: TypeAlias = tuple[tuple[str, int, int], ...]
"""Path, size and modification time in ns of files."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job:
    """One photo, what belongs to it, and the folder for its results."""

    name: str  # its key in the manifest: the path under the root of the photos
    photo: Path | bytes  # bytes: what standard input brought
    depth: Path | None  # None: none was found
    masks: tuple[Path, ...]  # none: none was found
    white: White  # what white means in the masks
    folder: Path

    @property
    def sources(self) -> tuple[Path | bytes, ...]:
        """Every file that is read."""
        depth = (self.depth, *_sidecars(self.depth)) if self.depth else ()
        return (self.photo, *depth, *self.masks)


class Outcome(NamedTuple):
    """What came of one job."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


class Draft(NamedTuple):
    """One job, read and computed; nothing is written yet."""

    files: tuple[Path, ...]  # all that `write` may write
    write: Callable[[], Outcome]


@dataclass(frozen=True)
class Record:
    """A line of the manifest: that a photo's files are about to be written, or what became of it.

    `skipped` is not written.
    """

    input: str
    status: Literal["started", "done", "failed", "skipped"]
    seconds: float = 0.0
    peak_rss_mb: float | None = None  # of the whole process so far
    error: str = ""
    notes: tuple[str, ...] = ()
    folder: str = ""  # relative to the manifest's folder, as are the outputs
    outputs: dict[str, int] = field(default_factory=dict)  # size in bytes; started: 0
    hash: str = ""  # of the settings and of the content of every file read
    settings: str = ""  # hash of the options that decide the values, and of the version
    formats: str = ""  # hash of the options that decide what is written
    stamps: Stamps = ()  # of every file read
    time: float = 0.0  # when it was recorded, seconds since 1970


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard ``i/n``.

        Raises:
            UsageError: the text is not of that form with 1 <= i <= n.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.index <= shard.count:
            raise UsageError(f"--shard is i/n with 1 <= i <= n, for example 3/16; got {text!r}.")
        return shard

    def named(self, stem: str, suffix: str) -> str:
        """A file name of this shard's own, so that no two shards write to one file."""
        part = "" if self.count == 1 else f".{self.index}-of-{self.count}"
        return f"{stem}{part}{suffix}"


class _Contents(NamedTuple):
    """What is in the folder of one photo."""

    last: Record
    files: frozenset[str]  # all that was written there and not removed, relative to the manifest
    hash: str  # what they are all made of; empty: of different things


class Manifest:
    """What is done in one result folder: two JSON lines per photo.

    Each is appended in a single write, and synced: `started` before the first file of a photo is
    written, `done` once all are in place. So a photo whose last line is not `done` is done again.
    A line torn by a crash is skipped when reading, and the next one starts on a new line.
    """

    def __init__(
        self,
        folder: Path,
        shard: Shard,
        settings: Mapping[str, object],
        formats: Mapping[str, object],
    ) -> None:
        """Read the manifests of all shards in ``folder``.

        Args:
            folder: the result folder; it exists.
            shard: whose manifest is appended to.
            settings: JSON values that decide the values of results: options and version.
            formats: JSON values that decide which files are written, and how.
        """
        self.folder = folder
        self.path = folder / shard.named("manifest", ".jsonl")
        self._settings = json.dumps(settings, sort_keys=True)
        self._formats = _digest(json.dumps(formats, sort_keys=True).encode())
        self._before = self.path.stat().st_size if self.path.is_file() else 0
        self._contents: dict[str, _Contents] = {}
        manifests = folder.glob("manifest*.jsonl")
        records = [record for path in manifests for record in _read_records(path)]
        for record in sorted(records, key=_time_of):
            self._learn(record)

    def record(
        self, job: Job, status: Literal["started", "done"], outputs: dict[str, int], **facts: Any
    ) -> Record:
        """A line about the files of a job; ``facts`` are other fields of the record."""
        return Record(
            job.name,
            status,
            folder=self.relative(job.folder),
            outputs=outputs,
            settings=self.settings(job),
            formats=self._formats,
            time=time.time(),
            **facts,
        )

    def added(self) -> list[Record]:
        """What became of the photos of this run, as far as it is written down."""
        records = _read_records(self.path, self._before) if self.path.is_file() else ()
        return [record for record in records if record.status != "started"]

    def relative(self, path: Path) -> str:
        """A path inside the result folder as the manifest writes it."""
        return path.relative_to(self.folder).as_posix()

    def finished(self, job: Job) -> Record | None:
        """What an earlier run recorded, if this job would only make the same files again.

        Files whose size and time are as recorded are not read.

        Raises:
            OSError: a file of the job cannot be read.
        """
        there = self._contents.get(self.relative(job.folder))
        if there is None or there.last.status != "done":
            return None
        record, stamps = there.last, read_stamps(job)
        if record.formats != self._formats or record.outputs != self.sizes(record.outputs):
            return None
        untouched = record.settings == self.settings(job) and record.stamps == stamps
        if not untouched and record.hash != self.hash(job):
            return None
        return replace(record, status="skipped", seconds=0.0)

    def other_photo(self, job: Job) -> Path | None:
        """The photo, other than the job's own, whose results are in the job's folder."""
        there = self._contents.get(self.relative(job.folder))
        if there is None or isinstance(job.photo, bytes) or not there.last.stamps:
            return None
        other = Path(there.last.stamps[0][0])
        # A photo that is gone has been moved or renamed: its results are replaced.
        return other if other.is_file() and not other.samefile(job.photo) else None

    def times(self, job: Job) -> dict[str, int]:
        """When the files that are in the job's folder were written, in ns."""
        there = self._contents.get(self.relative(job.folder))
        paths = {name: self.folder / name for name in there.files} if there else {}
        return {name: path.stat().st_mtime_ns for name, path in paths.items() if path.is_file()}

    def sizes(self, outputs: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of those files that are there."""
        paths = {name: self.folder / name for name in outputs}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

    def remove_outdated(self, started: Record, written: Collection[str]) -> None:
        """Remove what is in the folder of a job and contradicts the files it has ``written``.

        That is what was made of other input or with other settings, and what it wrote earlier and
        left out this time. The same depth in another format is no contradiction.
        """
        there = self._contents[started.folder]
        made = there.files if there.hash != started.hash else started.outputs.keys()
        for name in made - set(written):
            (self.folder / name).unlink(missing_ok=True)

    def settings(self, job: Job) -> str:
        """SHA-256 of what decides the values of results besides the content of files."""
        return _digest((self._settings + job.white).encode())

    def hash(self, job: Job) -> str:
        """SHA-256 of the settings and of the content of every file the job reads."""
        digests = (_digest(source) for source in job.sources)
        return _digest("\n".join((self.settings(job), *digests)).encode())

    def _learn(self, record: Record) -> None:
        """Keep in mind what a line says about its folder."""
        if record.status not in ("started", "done"):
            return
        before, files = self._contents.get(record.folder), frozenset(record.outputs)
        same = before is None or before.hash == record.hash
        if before is not None and (same or record.status == "started"):
            files |= before.files
        # What is done has replaced or removed all that was made of anything else.
        made_of = record.hash if same or record.status == "done" else ""
        self._contents[record.folder] = _Contents(record, files, made_of)

    def append(self, record: Record) -> None:
        """Add one line and see it on the disk. Raises OSError."""
        self._learn(record)
        data = json.dumps(asdict(record)).encode() + b"\n"
        with self.path.open("ab+", buffering=0) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash tore the last line
                    data = b"\n" + data
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(file.fileno())


def process(
    jobs: Iterable[Job],
    work: Callable[[Job], Draft],
    manifest: Manifest,
    *,
    overwrite: bool = False,
    stop: bool = False,
) -> Iterator[Record]:
    """Do the jobs one at a time; a job's failure is its own record.

    Args:
        jobs: in order.
        work: reads and computes one job.
        manifest: says what to skip, and learns what became of each job.
        overwrite: skip nothing.
        stop: end after the first failure.

    Raises:
        OSError: the disk is full, so that no other job could be written either.
    """
    for job in jobs:
        record = _process_one(job, work, manifest, overwrite)
        if record.status != "skipped":
            manifest.append(record)
        yield record
        if stop and record.status == "failed":
            return


def _process_one(
    job: Job, work: Callable[[Job], Draft], manifest: Manifest, overwrite: bool
) -> Record:
    began, times = time.perf_counter(), manifest.times(job)
    try:
        if not overwrite:
            if finished := manifest.finished(job):
                return finished
            if other := manifest.other_photo(job):
                times = {}  # the message says what is there
                raise ValueError(
                    f"{job.folder} holds the results of {other}; "
                    "choose another folder, or replace them with --overwrite"
                )
        # Taken before the files are read: what changes during the work is done again next time.
        made_of = {"stamps": read_stamps(job), "hash": manifest.hash(job)}
        draft = work(job)
        planned = dict.fromkeys(map(manifest.relative, draft.files), 0)
        started = manifest.record(job, "started", planned, **made_of)
        manifest.append(started)
        files, notes = draft.write()
        sizes = manifest.sizes(map(manifest.relative, files))
        manifest.remove_outdated(started, sizes)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        record = failed(job, error, began)
        if times.items() & manifest.times(job).items():
            older = f"{job.folder} still holds files of an earlier run"
            return replace(record, error=f"{record.error.rstrip('.')}; {older}")
        return record
    facts = {"seconds": round(time.perf_counter() - began, 3), "peak_rss_mb": peak_rss_mb()}
    return manifest.record(job, "done", sizes, notes=notes, **made_of, **facts)


def failed(job: Job, error: Exception, began: float) -> Record:
    """The record of a failure; a bug's traceback is printed. ``began`` is of `perf_counter`."""
    message = one_line(error)
    if not isinstance(error, KNOWN_ERRORS):
        traceback.print_exception(error)
        message = f"{type(error).__name__}: {message}"
    seconds = round(time.perf_counter() - began, 3)
    return Record(job.name, "failed", seconds, peak_rss_mb(), error=message)


def _sidecars(depth: Path) -> list[Path]:
    """The files that may say what the numbers of a depth file mean."""
    named = (depth.with_name(f"{depth.name}.json"), depth.with_suffix(".json"))
    return [path for path in named if path.is_file()]


def read_stamps(job: Job) -> Stamps:
    """The stamps of every file of a job. Raises OSError."""
    stamps = []
    for source in job.sources:
        if isinstance(source, bytes):
            stamps.append((f"sha256:{_digest(source)}", len(source), 0))
        else:
            stat = source.stat()
            stamps.append((os.path.abspath(source), stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)


def peak_rss_mb() -> float | None:
    """The most memory this process has held so far, in MB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # getrusage there also counts what the parent process held
        status = Path("/proc/self/status").read_text("utf-8")
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _digest(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _time_of(record: Record) -> float:
    return record.time


def _read_records(path: Path, start: int = 0) -> Iterator[Record]:
    """The lines of a manifest from byte ``start`` on."""
    with path.open("rb") as file:
        file.seek(start)
        for data in file:
            try:
                record = Record(**json.loads(data))
                stamps = tuple((str(name), size, mtime) for name, size, mtime in record.stamps)
                yield replace(record, outputs=dict(record.outputs), stamps=stamps)
            except (ValueError, TypeError):
                continue  # torn by a crash, or another version's: that photo is done again
