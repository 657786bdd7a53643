"""Files appear whole or not at all."""

import errno
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from crispdepth.io.atomic import (
    TEMP_PREFIX,
    atomic_path,
    make_folder,
    read_bytes,
    remove_stale,
    write_bytes,
    write_text,
)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(TEMP_PREFIX)]


@pytest.mark.parametrize(
    "name", ["a.png", "no suffix", "ünï-深度.exr", "a" * 251 + ".png", "深" * 85]
)
def test_bytes_written_are_the_bytes_read_whatever_the_legal_name(
    tmp_path: Path, name: str
) -> None:
    write_bytes(tmp_path / name, b"old")
    write_bytes(tmp_path / name, b"new\r\n\0")
    assert read_bytes(tmp_path / name) == b"new\r\n\0"
    assert os.listdir(tmp_path) == [name]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Tiefe: 深度\n")
    assert (tmp_path / "a.txt").read_bytes() == "Tiefe: 深度\n".encode()


def test_the_temporary_is_hidden_beside_the_target_and_keeps_a_format_suffix(
    tmp_path: Path,
) -> None:
    with atomic_path(tmp_path / "depth.exr") as first, atomic_path(tmp_path / "b.exr") as second:
        assert first != second
        assert first.parent == tmp_path
        assert first.name.startswith(".")
        assert first.suffix == ".exr"
        first.write_bytes(b"1")
        assert not (tmp_path / "depth.exr").exists()
    assert (tmp_path / "depth.exr").read_bytes() == b"1"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_killed_writer_leaves_no_target_and_its_temporary_is_recognised(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from crispdepth.io.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, tmp_path / "a.png"], check=False)
    assert process.returncode == -9
    assert len(temporaries(tmp_path)) == len(os.listdir(tmp_path)) == 1
    assert remove_stale(tmp_path) == 1
    assert os.listdir(tmp_path) == []


def test_temporaries_of_living_processes_and_files_of_others_stay(tmp_path: Path) -> None:
    foreign = tmp_path / f"{TEMP_PREFIX}notes.txt"
    foreign.touch()
    with atomic_path(tmp_path / "a.png") as temporary:
        assert remove_stale(tmp_path) == 0
        assert temporary.exists()
    assert foreign.exists()


@pytest.mark.parametrize(("age_hours", "removed"), [(1, 0), (25, 1)])
def test_another_host_is_given_a_day(tmp_path: Path, age_hours: int, removed: int) -> None:
    here = zlib.crc32(socket.gethostname().encode())
    path = tmp_path / f"{TEMP_PREFIX}{here ^ 1:08x}-{os.getpid()}-0.png"
    path.touch()
    then = path.stat().st_mtime - 3600 * age_hours
    os.utime(path, (then, then))
    assert remove_stale(tmp_path) == removed
    assert path.exists() == (removed == 0)


def test_nothing_is_stale_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert remove_stale(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "writable"), (errno.EIO, "check")],
)
def test_a_failing_disk_is_reported_with_path_cause_and_advice(
    tmp_path: Path, code: int, advice: str
) -> None:
    target = tmp_path / "a.exr"
    with pytest.raises(OSError, match=advice) as caught, atomic_path(target):
        raise OSError(code, os.strerror(code))
    assert caught.value.errno == code
    assert type(caught.value) is type(OSError(code, ""))
    assert os.strerror(code) in str(caught.value)
    assert str(target) in str(caught.value)
    assert os.listdir(tmp_path) == []


def in_missing_folder(folder: Path) -> Path:
    return folder / "none" / "a.png"


def under_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "a.png"


def with_too_long_a_name(folder: Path) -> Path:
    return folder / ("a" * 256)


def a_folder(folder: Path) -> Path:
    (folder / "a.png").mkdir()
    return folder / "a.png"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.png")
    return folder / "a.png"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (in_missing_folder, errno.ENOENT),
        (under_a_file, errno.ENOTDIR),
        (with_too_long_a_name, errno.ENAMETOOLONG),
        (a_folder, errno.EISDIR),
        (a_pipe, errno.EINVAL),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, make: Callable[[Path], Path], code: int
) -> None:
    target, reached = make(tmp_path), False
    with pytest.raises(OSError, match="while writing") as caught, atomic_path(target):
        reached = True
    assert caught.value.errno == code
    assert not reached
    assert temporaries(tmp_path) == []


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(FileNotFoundError, match=r"No such file.*none"):
        read_bytes(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_bytes(tmp_path)
    with pytest.raises(ValueError, match="0 bytes"):
        read_bytes(tmp_path / "empty")
    with pytest.raises(OSError, match="Cannot read"):
        read_bytes(tmp_path / ("a" * 256))


def test_a_folder_is_made_with_those_it_is_in(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("name", "advice"), [("file", "a folder is needed"), ("file/below", "is a file")]
)
def test_a_folder_that_cannot_be_made_is_named_with_advice(
    tmp_path: Path, name: str, advice: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=rf"{tmp_path / name}; .*{advice}"):
        make_folder(tmp_path / name)
