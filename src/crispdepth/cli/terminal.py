"""What a person sees of a batch: notes and progress on stderr, results on stdout."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crispdepth import __version__
from crispdepth.cli.batch import Record, peak_rss_mb
from crispdepth.cli.errors import ExitCode


class Terminal:
    """Where a command reports to; it remembers which notes have been said."""

    def __init__(self, quiet: bool, json: bool, bar: bool) -> None:
        """Only errors if ``quiet``; a summary instead of paths if ``json``."""
        self._quiet, self._json = quiet, json
        self._bar = bar and not quiet and sys.stderr.isatty()
        self._told: set[str] = set()

    def say(self, *lines: str) -> None:
        """Something worth knowing."""
        if not self._quiet:
            self.warn(*lines)

    def warn(self, *lines: str) -> None:
        """Something that must be known."""
        for line in lines:
            print(line, file=sys.stderr)

    def tell(self, record: Record, result: Path) -> None:
        """What became of one photo; a note that many share is said for the first of them."""
        if record.status == "failed":
            self.warn(f"error: {record.input}: {record.error}")
            return
        if not self._json:
            print(result)
        if record.status == "done":
            new = [note for note in record.notes if note not in self._told]
            self.say(*(f"{record.input}: {note}" for note in new))
            self._told.update(new)

    def print_summary(self, summary: str) -> None:
        """The summary, if it was asked for."""
        if self._json:
            print(summary)

    def conclude(self, records: Sequence[Record], total: int) -> ExitCode:
        """Say in one line how the batch went; the exit code."""
        count = Counter(record.status for record in records)
        parts = [f"{count['done']} of {total} photos refined"]
        if count["skipped"]:
            parts.append(f"{count['skipped']} were done before (--overwrite does them again)")
        if count["failed"]:
            parts.append(f"{count['failed']} failed")
        if len(records) < total:
            parts.append(f"stopped before {total - len(records)}")
        self.say("; ".join(parts) + ".")
        if not count["failed"]:
            return ExitCode.OK
        return ExitCode.PARTIAL if count["done"] + count["skipped"] else ExitCode.FAILURE

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], object]]:
        """A function to call after each photo; it moves a bar if somebody is watching."""
        if not self._bar or total < 2:
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # The bar must not be drawn into results that go to a file or a pipe.
        watched = sys.stdout.isatty()
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=watched) as progress:
            task = progress.add_task("", total=total)
            yield lambda: progress.advance(task)


def summarise(
    records: Sequence[Record], out: Path, seconds: float, *, interrupted: bool
) -> dict[str, object]:
    """The outcome of a run as JSON values; ``out`` is the folder of all outputs."""
    count = Counter(record.status for record in records)
    results = [
        {
            "input": record.input,
            "status": record.status,
            "seconds": record.seconds,
            "outputs": [str(out / output) for output in record.outputs],
            "notes": record.notes,
            "error": record.error,
        }
        for record in records
    ]
    return {
        "version": __version__,
        "out": str(out),
        "done": count["done"],
        "skipped": count["skipped"],
        "failed": count["failed"],
        "interrupted": interrupted,
        "seconds": seconds,
        "peak_rss_mb": peak_rss_mb(),
        "results": results,
    }
