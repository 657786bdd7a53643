"""Whole files: read with clear errors, written so that they appear complete or not at all."""

import errno
import itertools
import os
import re
import socket
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TEMP_PREFIX = ".crispdepth-"
"""How the name of every temporary file begins."""

_STALE_SECONDS = 24 * 3600.0  # age at which another host's temporary counts as left behind
_LONGEST_SUFFIX = 16  # bytes; a longer "suffix" is part of a name and names no format
_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + r"([0-9a-f]{8})-(\d{1,19})-\d+(\..*)?", re.DOTALL)
_counter = itertools.count()

_FULL = "free some space and run the same command again: finished files are kept"
_FORBIDDEN = "choose another output folder, or make this one writable"
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _FORBIDDEN,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EEXIST: "that is a file, and a folder is needed; choose another name",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "a part of the path is a file; choose another output folder",
    errno.EINVAL: "that is no ordinary file; give the name of one",
    errno.EISDIR: "that is a folder; give the name of a file",
    errno.ENAMETOOLONG: "choose a shorter name (most systems allow 255 bytes)",
}


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: there is no such file, it is a folder or it cannot be read (in each case the
            matching subclass).
        ValueError: it is empty.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"No such file: {path}; check the path") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(error.errno, f"{path} is a folder; a file is needed") from error
    except OSError as error:
        raise OSError(error.errno, f"Cannot read {path}: {error.strerror}") from error
    if not data:
        raise ValueError(f"{path} is empty (0 bytes); write or copy it again.")
    return data


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that becomes ``path`` when the block ends well.

    The temporary exists (empty) and keeps the suffix of ``path``, for writers that choose the
    format by it. If the block raises, ``path`` is left as it was and the temporary is removed.

    Raises:
        OSError: the file cannot be written; same class and errno as the cause, with a message
            that says what to do.
    """
    with atomic_paths(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_paths(*paths: str | Path) -> Iterator[tuple[Path, ...]]:
    """`atomic_path` for files that are only right together, all in one folder.

    Whatever fails, the old files are left as they were, all of them. A run that is killed never
    leaves the first of the new files beside others of the old ones, or the other way round: while
    the others are exchanged, there is no first file.
    """
    targets = [Path(path) for path in paths]
    temporaries = tuple(path.with_name(_temporary_name(path.suffix)) for path in targets)
    try:
        for path, temporary in zip(targets, temporaries, strict=True):
            _refuse_special(path)
            temporary.touch()  # whatever forbids writing here shows before the work is done
        yield temporaries
        for temporary in temporaries:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        _put_in_place(temporaries, targets)
    except OSError as error:
        if error.errno is None:
            raise
        advice = _ADVICE.get(error.errno, "check the output folder")
        raise OSError(
            error.errno, f"{error.strerror} while writing {targets[0]}; {advice}"
        ) from error
    finally:
        for temporary in temporaries:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)


def _put_in_place(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename all or none; several old files stay at hand until the last new one is in place."""
    old = [path for path in targets if path.exists()] if len(targets) > 1 else []
    aside = [path.with_name(_temporary_name(path.suffix)) for path in old]
    new = zip(reversed(temporaries), reversed(targets), strict=True)
    renamed: list[tuple[Path, Path]] = []
    try:
        for source, target in (*zip(old, aside, strict=True), *new):
            source.replace(target)
            renamed.append((source, target))
    except BaseException:
        for source, target in reversed(renamed):
            with suppress(OSError):  # the first error is the one to report
                target.replace(source)
        raise
    for path in aside:
        with suppress(OSError):  # `remove_stale` will do it
            path.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file through `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file through `atomic_path`; line ends are kept as they are."""
    write_bytes(path, text.encode())


def make_folder(path: str | Path) -> None:
    """Make a folder, and those it is in; one that is there already is fine.

    Raises:
        OSError: it cannot be made; same class and errno as the cause, with a message that says
            what to do.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another output folder")
        raise OSError(
            error.errno, f"{error.strerror} while making the folder {path}; {advice}"
        ) from error


def remove_stale(folder: str | Path) -> int:
    """Remove the temporaries that killed runs left in ``folder`` and return how many.

    A temporary of a living process is never touched. A process of another host cannot be asked,
    so its temporaries count as left behind after a day.
    """
    folder, removed = Path(folder), 0
    if not folder.is_dir():
        return removed
    for entry in folder.iterdir():
        name = _TEMP_NAME.fullmatch(entry.name)
        # Another user's file that we may not remove, or that has just gone, harms nobody.
        with suppress(PermissionError, FileNotFoundError):
            if name and _left_behind(entry, host=name[1], process=int(name[2])):
                entry.unlink()
                removed += 1
    return removed


def _refuse_special(path: Path) -> None:
    """Raise an OSError where there is something else than a file: a rename would replace it."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, os.strerror(code))


def _temporary_name(suffix: str) -> str:
    """A short name, unique on every host and process, whatever the length of the target's."""
    suffix = suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""
    return f"{TEMP_PREFIX}{_host()}-{os.getpid()}-{next(_counter)}{suffix}"


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _left_behind(entry: Path, host: str, process: int) -> bool:
    # On Windows signal 0 is Ctrl-C, so a process there cannot be asked either.
    if host == _host() and os.name == "posix":
        return not _is_alive(process)
    return time.time() - entry.lstat().st_mtime > _STALE_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives and belongs to somebody else
        return True
    return True
