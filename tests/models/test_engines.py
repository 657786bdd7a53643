"""The completers by name."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crispdepth.models.classical import ClassicalCompleter
from crispdepth.models.engines import DEFAULT_ENGINE, facts_of, make_completer
from crispdepth.models.learned import LearnedCompleter


def test_an_engine_is_made_by_its_name(tiny_weights: Path) -> None:
    assert make_completer("classical") == ClassicalCompleter()
    made = make_completer("learned", weights=tiny_weights, resolution=64, tiled=True)
    assert made == LearnedCompleter(tiny_weights, resolution=64, tiled=True)


def test_without_a_name_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_completer().name == DEFAULT_ENGINE == "learned"
    with pytest.raises(FileNotFoundError, match="no weights 'nowhere'"):
        make_completer(weights="nowhere")
    monkeypatch.setattr("crispdepth.models.engines.DEFAULT_ENGINE", "classical")
    assert make_completer() == ClassicalCompleter()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "magic"}, "'learned' and 'classical'; got 'magic'"),
        ({"engine": "classical", "tiled": True}, "^tiled only the engine 'learned' has"),
        ({"engine": "classical", "weights": "a", "resolution": 64}, "^weights and resolution"),
    ],
)
def test_what_an_engine_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_completer(**options)


def test_the_facts_name_weights_by_their_content(tiny_weights: Path) -> None:
    assert facts_of(ClassicalCompleter()) == {"engine": "classical"}
    digest = hashlib.sha256((tiny_weights / "model.onnx").read_bytes()).hexdigest()
    assert facts_of(LearnedCompleter(tiny_weights, resolution=96)) == {
        "engine": "learned",
        "weights": digest,
        "resolution": 96,
        "tiled": False,
    }


def test_the_classical_engine_loads_no_runtime() -> None:
    code = (
        "import sys; from crispdepth.models.engines import facts_of, make_completer; "
        "facts_of(make_completer('classical')); assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
