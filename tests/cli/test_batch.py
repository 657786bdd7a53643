"""What is done is known, what fails costs only itself, and a torn manifest loses nothing."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crispdepth.cli.batch import Draft, Job, Manifest, Outcome, Record, Shard, peak_rss_mb, process
from crispdepth.cli.errors import UsageError

Work = Callable[[Job], Draft]
WHOLE = Shard(1, 1)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made = []
    for name in "abc":
        files = [tmp_path / f"{name}.{kind}" for kind in ("png", "npy", "mask")]
        for file in files:
            file.write_text(f"content of {file.name}")
        photo, depth, mask = files
        made.append(Job(photo.name, photo, depth, (mask,), "keep", tmp_path / "out" / name))
    (tmp_path / "out").mkdir()
    return made


def writing(*names: str, notes: tuple[str, ...] = ("noted",)) -> Work:
    """Work that is easy to check: every result is the photo's bytes."""

    def work(job: Job) -> Draft:
        assert isinstance(job.photo, Path)
        content = job.photo.read_bytes()
        files = tuple(job.folder / name for name in names)

        def write() -> Outcome:
            job.folder.mkdir(exist_ok=True)
            for file in files:
                file.write_bytes(content)
            return Outcome(files, notes)

        return Draft(files, write)

    return work


copy_photo = writing("result")


def dying(work: Work, error: BaseException, *, written: int = 0, name: str = "") -> Work:
    """That work, for the job of that name ended by an error after so many files."""

    def start(job: Job) -> Draft:
        draft = work(job)

        def write() -> Outcome:
            writing(*(file.name for file in draft.files[:written]))(job).write()
            raise error

        return draft if name and job.name != name else Draft(draft.files, write)

    return start


def do(
    jobs: list[Job],
    work: Work = copy_photo,
    *,
    version: int = 1,
    formats: str = "",
    **how: bool,
) -> list[Record]:
    folder = jobs[0].folder.parent
    manifest = Manifest(folder, WHOLE, {"version": version}, {"formats": formats})
    return list(process(jobs, work, manifest, **how))


def written(job: Job) -> list[str]:
    return sorted(file.name for file in job.folder.iterdir())


def states(records: list[Record]) -> list[str]:
    return [record.status for record in records]


def test_what_is_done_is_not_done_again(jobs: list[Job]) -> None:
    first = do(jobs)
    assert states(first) == ["done"] * 3
    again = do(jobs)
    assert states(again) == ["skipped"] * 3
    assert [record.outputs for record in again] == [record.outputs for record in first]


def test_files_of_the_recorded_size_and_time_are_not_read(jobs: list[Job]) -> None:
    do(jobs)
    photo = jobs[0].photo
    assert isinstance(photo, Path)
    time = photo.stat().st_mtime_ns
    photo.write_bytes(photo.read_bytes()[::-1])
    os.utime(photo, ns=(time, time))
    assert states(do(jobs)) == ["skipped"] * 3
    os.utime(photo, ns=(time + 1, time + 1))
    assert states(do(jobs)) == ["done", "skipped", "skipped"]


def test_a_file_that_was_only_touched_or_moved_is_not_done_again(jobs: list[Job]) -> None:
    do(jobs)
    job, photo = jobs[0], jobs[0].photo
    assert isinstance(photo, Path)
    moved = photo.rename(photo.with_name("moved"))
    assert states(do([replace(job, photo=moved)])) == ["skipped"]


def test_a_sidecar_of_the_depth_counts_as_input(jobs: list[Job]) -> None:
    do(jobs)
    assert jobs[1].depth is not None
    jobs[1].depth.with_suffix(".json").write_text('{"kind": "depth"}')
    assert states(do(jobs)) == ["skipped", "done", "skipped"]


def test_other_settings_or_another_polarity_do_all_again(jobs: list[Job]) -> None:
    do(jobs)
    assert states(do(jobs, version=2)) == ["done"] * 3
    assert states(do(jobs, version=1)) == ["done"] * 3, "what is there is of version 2"
    assert states(do([replace(job, white="ignore") for job in jobs])) == ["done"] * 3


def test_a_lost_output_is_made_again(jobs: list[Job]) -> None:
    do(jobs)
    (jobs[2].folder / "result").unlink()
    assert states(do(jobs)) == ["skipped", "skipped", "done"]


@pytest.mark.parametrize("content", [b"", b"other"])
def test_an_output_of_another_size_is_made_again(jobs: list[Job], content: bytes) -> None:
    do(jobs)
    (jobs[2].folder / "result").write_bytes(content)
    assert states(do(jobs)) == ["skipped", "skipped", "done"]


def test_the_same_results_in_other_formats_stay_together(jobs: list[Job]) -> None:
    do(jobs, writing("first", "second"))
    assert states(do(jobs, writing("second", "third"), formats="other")) == ["done"] * 3
    assert written(jobs[0]) == ["first", "second", "third"]


def test_other_settings_leave_no_result_of_the_old_ones(jobs: list[Job]) -> None:
    do(jobs, writing("first", "second"))
    mine = jobs[0].folder / "mine"
    mine.write_text("not a result")
    do(jobs, writing("second"), formats="other", version=2)
    assert written(jobs[0]) == ["mine", "second"]


def test_other_input_leaves_no_result_of_the_old_one(jobs: list[Job]) -> None:
    do(jobs, writing("first", "second"))
    do(jobs, writing("second"), formats="other")
    jobs[0].masks[0].write_text("another mask")
    do(jobs, writing("third"), formats="other")
    assert written(jobs[0]) == ["third"], "first, too, which the second run did not write"
    assert written(jobs[1]) == ["first", "second"]


def test_a_file_that_is_left_out_this_time_does_not_stay_from_the_last(jobs: list[Job]) -> None:
    def leaving_out(job: Job) -> Draft:
        whole = writing("first", "second")(job)
        return Draft(whole.files, writing("first")(job).write)

    do(jobs, writing("first", "second"))
    do(jobs, leaving_out, overwrite=True)
    assert written(jobs[0]) == ["first"]


@pytest.mark.parametrize("error", [ValueError("does not fit"), KeyboardInterrupt()])
def test_what_was_begun_with_other_settings_is_not_taken_for_done(
    jobs: list[Job], error: BaseException
) -> None:
    job = jobs[:1]
    do(job, writing("first", "second"))
    interrupted = dying(writing("first", "third"), error, written=2)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            do(job, interrupted, version=2)
    else:
        assert states(do(job, interrupted, version=2)) == ["failed"]
    assert written(jobs[0]) == ["first", "second", "third"]
    assert states(do(job, writing("first"))) == ["done"]
    assert written(jobs[0]) == ["first"], "of several settings nothing else may stay"
    assert states(do(job, writing("first"))) == ["skipped"]


def test_what_fails_before_it_writes_leaves_the_old_results_and_says_so(jobs: list[Job]) -> None:
    def unreadable(job: Job) -> Draft:
        raise ValueError("the depth is truncated")

    do(jobs)
    assert jobs[0].depth is not None
    before = jobs[0].depth.read_text()
    jobs[0].depth.write_text("other")
    record, *others = do(jobs, unreadable)
    assert states(others) == ["skipped"] * 2
    assert record.error.startswith("the depth is truncated; ")
    assert "files of an earlier run" in record.error
    jobs[0].depth.write_text(before)
    assert states(do(jobs, unreadable)) == ["skipped"] * 3, "nothing was touched"


def test_a_failure_without_old_results_does_not_speak_of_any(jobs: list[Job]) -> None:
    (record,) = do(jobs[:1], dying(copy_photo, ValueError("no"), written=1))
    assert record.error == "no"


def test_overwrite_skips_nothing(jobs: list[Job]) -> None:
    do(jobs)
    assert states(do(jobs, overwrite=True)) == ["done"] * 3


def test_results_of_another_photo_are_not_replaced_unasked(jobs: list[Job]) -> None:
    do(jobs)
    intruder = replace(jobs[1], folder=jobs[0].folder)
    (record,) = do([intruder])
    assert record.status == "failed"
    assert "a.png" in record.error
    assert states(do([intruder], overwrite=True)) == ["done"]


def test_a_failure_is_recorded_and_costs_only_itself(jobs: list[Job]) -> None:
    assert isinstance(jobs[1].photo, Path)
    jobs[1].photo.unlink()
    records = do(jobs)
    assert states(records) == ["done", "failed", "done"]
    assert "b.png" in records[1].error
    lines = (jobs[0].folder.parent / "manifest.jsonl").read_text("utf-8").splitlines()
    written = [json.loads(line) for line in lines]
    assert [line["status"] for line in written] == ["started", "done", "failed", "started", "done"]
    jobs[1].photo.write_text("mended")
    assert states(do(jobs)) == ["skipped", "done", "skipped"]


def test_stop_ends_at_the_first_failure(jobs: list[Job]) -> None:
    assert isinstance(jobs[1].photo, Path)
    jobs[1].photo.unlink()
    assert states(do(jobs, stop=True)) == ["done", "failed"]


def test_a_bug_keeps_its_traceback_and_the_batch(
    jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    notes: dict[str, str] = {}

    def work(job: Job) -> Draft:
        return (
            copy_photo(job)
            if job.name != "b.png"
            else Draft((), lambda: Outcome((), (notes["gone"],)))
        )

    records = do(jobs, work)
    assert states(records) == ["done", "failed", "done"]
    assert records[1].error == "KeyError: 'gone'"
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_ends_the_batch_and_is_nobodys_failure(jobs: list[Job]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        do(jobs, dying(copy_photo, full, name="b.png"))
    assert states(do(jobs)) == ["skipped", "done", "done"]


def test_an_interrupted_job_is_not_done(jobs: list[Job]) -> None:
    with pytest.raises(KeyboardInterrupt):
        do(jobs, dying(copy_photo, KeyboardInterrupt(), written=1, name="b.png"))
    assert states(do(jobs)) == ["skipped", "done", "done"]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_costs_only_its_own_photo(jobs: list[Job], cut: int) -> None:
    do(jobs)
    path = jobs[0].folder.parent / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    torn = "skipped" if cut == 1 else "done"  # only the end of the line was missing
    assert states(do(jobs)) == ["skipped", "skipped", torn]
    assert states(do(jobs)) == ["skipped"] * 3


FOREIGN = (
    *("[1]", "null", '{"status": "done"}', '{"other": 1}'),
    '{"input": "a", "status": "done", "folder": "a", "outputs": ["a/result"]}',
)


@pytest.mark.parametrize("line", FOREIGN)
def test_foreign_lines_are_skipped(jobs: list[Job], line: str) -> None:
    do(jobs)
    with (jobs[0].folder.parent / "manifest.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert states(do(jobs)) == ["skipped"] * 3


def test_bytes_are_known_by_their_content(jobs: list[Job]) -> None:
    def work(job: Job) -> Draft:
        return Draft((), lambda: Outcome((), ()))

    assert states(do([replace(jobs[0], photo=b"one")], work)) == ["done"]
    assert states(do([replace(jobs[0], photo=b"one")], work)) == ["skipped"]
    assert states(do([replace(jobs[0], photo=b"two")], work)) == ["done"]


def test_a_name_that_is_no_unicode_survives_the_manifest(jobs: list[Job]) -> None:
    odd = replace(jobs[0], name=os.fsdecode(b"caf\xe9.png"))
    do([odd])
    (record,) = do([odd])
    assert (record.status, record.input) == ("skipped", odd.name)


def test_shards_have_manifests_of_their_own_and_know_each_others(jobs: list[Job]) -> None:
    folder = jobs[0].folder.parent
    for shard in (Shard(1, 2), Shard(2, 2)):
        part = jobs[shard.index - 1 :: shard.count]
        manifest = Manifest(folder, shard, {"version": 1}, {"formats": ""})
        list(process(part, copy_photo, manifest))
    assert sorted(path.name for path in folder.glob("*.jsonl")) == [
        "manifest.1-of-2.jsonl",
        "manifest.2-of-2.jsonl",
    ]
    assert states(do(jobs)) == ["skipped"] * 3


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "a/b", "1", "-1/3", "1/3/5", ""])
def test_a_shard_that_does_not_exist_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)


def test_shards_are_counted_from_one() -> None:
    assert Shard.parse("3/16") == Shard(3, 16)


def test_the_peak_of_memory_is_plausible() -> None:
    peak = peak_rss_mb()
    assert peak is None or 10 < peak < 100_000
