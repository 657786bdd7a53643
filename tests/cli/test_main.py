"""The list of commands: quick, and every way it can end has its exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest

from crispdepth import __version__
from crispdepth.cli.errors import UsageError
from crispdepth.cli.main import COMMANDS, main

HEAVY = ("numpy", "cv2", "PIL", "OpenEXR", "rich.progress", "crispdepth.types", "crispdepth.api")
Install = Callable[[BaseException | None], None]


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class TrialOptions:
    """A command for these tests."""

    count: int = 1


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make `crispdepth trial` raise an error, or return 0."""

    def install(error: BaseException | None) -> None:
        def run(options: TrialOptions) -> int:
            if error is not None:
                raise error
            return 0

        module = ModuleType("trial_command")
        vars(module)["run"] = run
        monkeypatch.setitem(sys.modules, "trial_command", module)
        monkeypatch.setitem(COMMANDS, "trial", ("trial_command", "a trial"))

    return install


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([*name.split(), "--help"] for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "crispdepth", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "crispdepth.cli.main" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.slow  # a clock on a busy machine proves nothing
def test_help_answers_in_half_a_second() -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", "crispdepth", "refine", "--help"], capture_output=True)
    after = os.times()
    assert after.children_user + after.children_system < 0.5 + (
        before.children_user + before.children_system
    )


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_no_command_is_a_usage_error_that_shows_the_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "refine" in captured.err


def test_the_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"crispdepth {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["refien"], "'refine'"),
        (["bench"], "'bench refine'"),
        (["bench", "refien"], "'bench refine'"),
        (["nothing-like-it"], ", ".join(COMMANDS)),
        (["--nothing"], ", ".join(COMMANDS)),
    ],
)
def test_an_unknown_command_is_told_what_there_is(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert hint in capsys.readouterr().err


def test_a_group_of_commands_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert "bench refine" in text
    assert "doctor" not in text


@pytest.mark.parametrize(
    "words", [["refine", "a.png", "--nothing"], ["refine", "a", "--on-error", "shout"]]
)
def test_unknown_flags_and_values_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (UsageError("not so"), 2, "error: not so\n"),
        (ValueError("two\nlines"), 1, "error: two lines\n"),
        (ValueError(), 1, "error: ValueError\n"),
        (FileNotFoundError(2, "No such file", "x.png"), 1, "error: No such file: x.png\n"),
        (ImportError('pip install "crispdepth[bench]"'), 1, 'pip install "crispdepth[bench]"\n'),
        (MemoryError("too large"), 1, "error: too large\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_errors_that_are_foreseen_are_one_line(
    error: BaseException | None,
    code: int,
    text: str,
    trial: Install,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trial(error)
    assert main(["trial"]) == code
    assert capsys.readouterr().err.endswith(text)


def test_a_bug_keeps_its_traceback(trial: Install, capsys: pytest.CaptureFixture[str]) -> None:
    trial(ZeroDivisionError("a bug"))
    assert main(["trial"]) == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in text
    assert "Traceback" in text
    assert "crispdepth doctor" in text


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "crispdepth", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""
    assert started.returncode == 1
