"""How a command ends: exit codes and the errors that are the user's to mend."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to the shell."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3  # part of a batch failed
    INTERRUPTED = 130  # 128 + SIGINT


class UsageError(ValueError):
    """The command line itself is wrong: exit code 2."""


KNOWN_ERRORS = (ValueError, OSError, ImportError, MemoryError)
"""What reading, checking and writing raise on purpose; anything else is a bug of ours."""


def one_line(error: BaseException) -> str:
    """The message of an error on a single line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the number in front
        text = error.strerror + (f": {error.filename}" if error.filename else "")
    return " ".join(text.splitlines()) or type(error).__name__
