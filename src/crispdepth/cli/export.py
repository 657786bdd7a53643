"""``crispdepth train export``: weights of a training, for refinement."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from crispdepth.cli.errors import ExitCode


@dataclass(frozen=True)
class ExportOptions:
    """Write the best weights of a training as a folder that refinement uses.

    `crispdepth train export run -o weights`, then `crispdepth bench refine --weights NAME=weights`.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder of the training."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The folder: model.onnx, model.safetensors, config.json."""

    full_precision: bool = False
    """Store the weights as float32, twice the size."""


def run(options: ExportOptions) -> int:
    """Run ``crispdepth train export``.

    Raises:
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the run cannot be used, or the folder not written.
    """
    try:
        from crispdepth.training.export import export_run
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Exporting needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    export_run(options.run, options.out, half=not options.full_precision)
    print(options.out)
    return ExitCode.OK
