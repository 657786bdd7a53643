"""The list of commands. A command's module, and all it needs, is imported when it is chosen."""

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import get_type_hints

from crispdepth import __version__
from crispdepth.cli.errors import KNOWN_ERRORS, ExitCode, UsageError, one_line

# Words on the command line -> the module whose `run(options) -> int` does it, and one line of
# help. The flags are the fields of the dataclass that `run` takes.
COMMANDS = {
    "refine": ("crispdepth.cli.refine", "photo + rough depth + mask -> crisp, layered depth"),
    "bokeh": ("crispdepth.cli.bokeh", "blur what is out of focus, as a large lens does"),
    "cloud": ("crispdepth.cli.cloud", "a coloured point cloud, PLY or GLB"),
    "novel": ("crispdepth.cli.novel", "a view from elsewhere, or a clip with parallax"),
    "reconstruct": ("crispdepth.cli.reconstruct", "posed photos + masks -> depth, mesh, Gaussians"),
    "multiview": ("crispdepth.cli.multiview", "depth of every view of a scene of posed photos"),
    "fuse": ("crispdepth.cli.fuse", "depths of posed photos -> one mesh, PLY, GLB or OBJ"),
    "splat": ("crispdepth.cli.splat", "posed photos with depth and masks -> Gaussians"),
    "render": ("crispdepth.cli.render", "Gaussians or a mesh from all sides: a clip, or pictures"),
    "scene info": ("crispdepth.cli.scene_info", "what a scene of posed photos is"),
    "scene convert": ("crispdepth.cli.scene_convert", "a scene for COLMAP or nerfstudio"),
    "compare": ("crispdepth.cli.compare", "measure depth maps, side by side"),
    "bench refine": ("crispdepth.cli.bench", "score refinement methods on a dataset"),
    "bench reconstruct": ("crispdepth.cli.bench_reconstruct", "score reconstructions of scenes"),
    "train layered": ("crispdepth.cli.train", "train the network of layered refinement"),
    "train multiview": ("crispdepth.cli.train_multiview", "train the multi-view depth network"),
    "train volume": ("crispdepth.cli.train_volume", "train learned volumetric fusion"),
    "train depths": ("crispdepth.cli.train_depths", "depths that fusion is trained on"),
    "train pack": ("crispdepth.cli.pack", "pack datasets so that training reads them fast"),
    "train export": ("crispdepth.cli.export", "weights of a training, for use"),
    "synth": ("crispdepth.cli.synth", "rendered rooms or objects with exact depth and ids"),
    "doctor": ("crispdepth.cli.doctor", "check this installation by running it"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors end as text on stderr."""
    # A batch scheduler sends SIGTERM where a person presses Ctrl-C: both tidy up and resume.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What OpenCV logs of a damaged file is said again, by name, in our error.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if os.name == "posix":  # file names need not be valid UTF-8, and come out as they went in
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="surrogateescape")
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ExitCode.USAGE
    except BrokenPipeError:  # whoever read our output (`| head`) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except KNOWN_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return ExitCode.FAILURE
    except Exception:
        traceback.print_exc()
        print("This is a bug in crispdepth; `crispdepth doctor` says more.", file=sys.stderr)
        return ExitCode.FAILURE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help(COMMANDS), file=sys.stdout if words else sys.stderr)
        return ExitCode.OK if words else ExitCode.USAGE
    if words[0] == "--version":
        print(f"crispdepth {__version__}")
        return ExitCode.OK
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return _run(name, words[length:])
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group and words[1:2] in (["-h"], ["--help"]):
        print(_help(group))
        return ExitCode.OK
    raise UsageError(_unknown(" ".join(words[: 2 if group else 1]), group))


def _run(name: str, arguments: list[str]) -> int:
    import tyro

    run = import_module(COMMANDS[name][0]).run
    options = tyro.cli(
        get_type_hints(run)["options"],
        prog=f"crispdepth {name}",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return int(run(options))


def _help(names: Collection[str]) -> str:
    width = 2 + max(map(len, names))
    rows = "\n".join(f"  {name:<{width}}{COMMANDS[name][1]}" for name in names)
    return (
        "usage: crispdepth [--version] [--help] COMMAND ...\n\n"
        f"commands:\n{rows}\n\n`crispdepth COMMAND --help` explains one."
    )


def _unknown(name: str, group: Sequence[str]) -> str:
    close = group or difflib.get_close_matches(name, COMMANDS, n=2)
    meant = f" Did you mean {' or '.join(repr(other) for other in close)}?" if close else ""
    return f"There is no command {name!r}.{meant} The commands are: {', '.join(COMMANDS)}."
