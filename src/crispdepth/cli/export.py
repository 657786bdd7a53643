"""``crispdepth train export``: weights of a training, for refinement or for several views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError


@dataclass(frozen=True)
class ExportOptions:
    """Write the best weights of a training as a folder that other commands use.

    `crispdepth train export run -o weights`, then `crispdepth bench refine --weights NAME=weights`,
    or of a multi-view network `crispdepth reconstruct SCENE --method multiview --weights weights`.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder of the training."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The folder: model.safetensors, config.json and, for refinement, model.onnx."""

    gate_threshold: float = 0.5
    """From which probability that a pixel gets better its gate opens by half: higher changes less
    and makes fewer pixels worse."""

    gate_sharpness: float = 1.0
    """How steeply it opens around the threshold, as a multiple of what was trained; steep gates are
    shut, and keep the input bit for bit, over more of the photo."""

    last: bool = False
    """The averaged weights of the last step, not those with the least held-out error: where few
    samples are held out, that is chance."""

    full_precision: bool = False
    """Store the weights as float32, twice the size."""


def run(options: ExportOptions) -> int:
    """Run ``crispdepth train export``.

    Raises:
        ImportError: torch is not installed; the message names the extra.
        UsageError: a number is out of range.
        OSError, ValueError: the run cannot be used, or the folder not written.
    """
    if not 0 < options.gate_threshold < 1 or not options.gate_sharpness > 0:
        raise UsageError("--gate-threshold is between 0 and 1, --gate-sharpness above 0.")
    try:
        from crispdepth.training.export import export_run
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Exporting needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    export_run(
        options.run,
        options.out,
        last=options.last,
        half=not options.full_precision,
        gate_threshold=options.gate_threshold,
        gate_sharpness=options.gate_sharpness,
    )
    print(options.out)
    return ExitCode.OK
