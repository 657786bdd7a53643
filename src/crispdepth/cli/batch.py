"""Doing many photos: what is done already, one photo's failure, and the way to carry on."""

import errno
import hashlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from crispdepth.cli.errors import KNOWN_ERRORS, UsageError, one_line
from crispdepth.io.match import White

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


@dataclass(frozen=True)
class Record:
    """What became of one photo: a line of the manifest."""

    input: str
    status: Literal["done", "failed", "skipped"]  # `skipped` is not written
    seconds: float = 0.0
    peak_rss_mb: float | None = None  # of the whole process so far
    error: str = ""
    notes: tuple[str, ...] = ()
    folder: str = ""  # relative to the manifest's folder, as are the outputs
    outputs: tuple[str, ...] = ()
    hash: str = ""  # of the settings and of the content of every file read
    settings: str = ""  # hash of the options and the version
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


class Manifest:
    """What is done in one result folder: one JSON line per photo.

    A line is appended in a single write, and synced, once all files of its photo are in place.
    A line torn by a crash is skipped when reading, and the next one starts on a new line.
    """

    def __init__(self, folder: Path, shard: Shard, settings: Mapping[str, object]) -> None:
        """Read the manifests of all shards in ``folder``.

        Args:
            folder: the result folder; it exists.
            shard: whose manifest is appended to.
            settings: JSON values that decide what the results are: options and version.
        """
        self.folder = folder
        self.path = folder / shard.named("manifest", ".jsonl")
        self._settings = json.dumps(settings, sort_keys=True)
        records = [
            record
            for path in folder.glob("manifest*.jsonl")
            for record in _read_records(path)
            if record.status == "done"
        ]
        # What was written last is what is there.
        self._done = {record.folder: record for record in sorted(records, key=_time_of)}

    def relative(self, path: Path) -> str:
        """A path inside the result folder as the manifest writes it."""
        return path.relative_to(self.folder).as_posix()

    def finished(self, job: Job) -> Record | None:
        """What an earlier run recorded, if this job would only make the same files again.

        Files whose size and time are as recorded are not read.

        Raises:
            OSError: a file of the job cannot be read.
        """
        record = self._done.get(self.relative(job.folder))
        if record is None:
            return None
        stamps = read_stamps(job)
        if not all((self.folder / output).is_file() for output in record.outputs):
            return None
        untouched = record.settings == self.settings(job) and record.stamps == stamps
        if not untouched and record.hash != self.hash(job):
            return None
        return replace(record, status="skipped", seconds=0.0)

    def other_photo(self, job: Job) -> Path | None:
        """The photo, other than the job's own, whose results are in the job's folder."""
        record = self._done.get(self.relative(job.folder))
        if record is None or isinstance(job.photo, bytes) or not record.stamps:
            return None
        other = Path(record.stamps[0][0])
        # A photo that is gone has been moved or renamed: its results are replaced.
        return other if other.is_file() and not other.samefile(job.photo) else None

    def remove_outdated(self, job: Job, files: Iterable[Path], stamps: Stamps) -> None:
        """Remove what an earlier run made here of other input and this one did not replace."""
        record = self._done.get(self.relative(job.folder))
        if record is None or record.stamps == stamps:
            return  # the same input in other formats is no contradiction
        for output in {*record.outputs} - {self.relative(file) for file in files}:
            (self.folder / output).unlink(missing_ok=True)

    def settings(self, job: Job) -> str:
        """SHA-256 of what decides the results besides the content of files."""
        return _digest((self._settings + job.white).encode())

    def hash(self, job: Job) -> str:
        """SHA-256 of the settings and of the content of every file the job reads."""
        digests = (_digest(source) for source in job.sources)
        return _digest("\n".join((self.settings(job), *digests)).encode())

    def append(self, record: Record) -> None:
        """Add one line and see it on the disk. Raises OSError."""
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
    work: Callable[[Job], Outcome],
    manifest: Manifest,
    *,
    overwrite: bool = False,
    stop: bool = False,
) -> Iterator[Record]:
    """Do the jobs one at a time; a job's failure is its own record.

    Args:
        jobs: in order.
        work: reads, computes and writes one job.
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
    job: Job, work: Callable[[Job], Outcome], manifest: Manifest, overwrite: bool
) -> Record:
    started = time.perf_counter()
    try:
        if not overwrite:
            if finished := manifest.finished(job):
                return finished
            if other := manifest.other_photo(job):
                raise ValueError(
                    f"{job.folder} holds the results of {other}; "
                    "choose another folder, or replace them with --overwrite"
                )
        # Taken before the files are read: what changes during the work is done again next time.
        stamps, content = read_stamps(job), manifest.hash(job)
        files, notes = work(job)
        manifest.remove_outdated(job, files, stamps)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        message = one_line(error)
        if not isinstance(error, KNOWN_ERRORS):
            traceback.print_exc()
            message = f"{type(error).__name__}: {message}"
        return Record(
            job.name,
            "failed",
            seconds=round(time.perf_counter() - started, 3),
            peak_rss_mb=peak_rss_mb(),
            error=message,
        )
    return Record(
        job.name,
        "done",
        seconds=round(time.perf_counter() - started, 3),
        peak_rss_mb=peak_rss_mb(),
        notes=notes,
        folder=manifest.relative(job.folder),
        outputs=tuple(manifest.relative(file) for file in files),
        hash=content,
        settings=manifest.settings(job),
        stamps=stamps,
        time=time.time(),
    )


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


def _read_records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for data in file:
            try:
                record = Record(**json.loads(data))
                stamps = tuple((str(name), size, mtime) for name, size, mtime in record.stamps)
                yield replace(record, outputs=tuple(record.outputs), stamps=stamps)
            except (ValueError, TypeError):
                continue  # torn by a crash, or another version's: that photo is done again
