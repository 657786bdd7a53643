"""``crispdepth render``: Gaussians or a mesh as pictures or a clip, without a display."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.terminal import Terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crispdepth.io.clips import Frame
    from crispdepth.tasks.render import Renderer
    from crispdepth.types import Camera, Scene

CLIPS = (".mp4", ".gif", ".webp")
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}
UPS = {"-y": (0, -1, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-z": (0, 0, -1), "x": (1, 0, 0)}


@dataclass(frozen=True)
class RenderOptions:
    """Draw Gaussians or a mesh from all sides: a clip, or a folder of pictures. Needs torch.

    `crispdepth render splats.ply -o turntable.mp4`
    or, along the cameras of a scene, `crispdepth render splats.ply --scene FOLDER -o frames`.
    """

    # Gaussians, .ply or .spz, or a mesh, .ply.
    source: Annotated[Positional[Path], arg(metavar="FILE", help_behavior_hint="")]

    # The scene whose cameras to use: its folder or file.
    scene: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None

    # Once around, on a way through the cameras of the scene, or from each of them. auto: through
    # the cameras with --scene, once around without it.
    path: Literal["auto", "turntable", "through", "views"] = "auto"

    # The axis of a turntable that points up, where no scene says so.
    up: Literal["-y", "y", "z", "-z", "x"] = "-y"

    # How high above the plane through its middle a turntable's camera is, degrees. Without it, as
    # high as the cameras of the scene are, else 20.
    elevation: Annotated[float | None, arg(metavar="DEGREES", help_behavior_hint="")] = None

    # Longer side of the frames, pixels; cameras of a scene keep their shape.
    size: int = 480

    # Seconds of a clip.
    seconds: float = 4.0

    # Frames per second.
    fps: float = 25.0

    # What is behind.
    background: Literal["white", "black", "grey"] = "white"

    # Where to compute: cpu, or cuda (gsplat is used there if it is installed).
    device: str = "cpu"

    # A clip (.mp4, .gif, .webp), or a folder for PNG files.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE|FOLDER")] = Path("render.mp4")

    # Replace existing files.
    overwrite: bool = False

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False


def run(options: RenderOptions) -> int:
    """Run ``crispdepth render`` and return its exit code.

    Raises:
        UsageError: the options contradict each other, or are out of range.
        ImportError: torch is not installed.
        OSError, ValueError: a file cannot be read or written, or is not what it should be.
    """
    from crispdepth.cli.torch_extra import require_device, require_torch

    _check(options)
    require_torch("Rendering")
    require_device(options.device)

    from crispdepth.io.clips import write_clip

    points, draw, what = _subject(options)
    cameras = _cameras(options, points)
    terminal = Terminal(options.quiet, json=False, bar=True)
    terminal.say(f"{what}, {len(cameras)} frames")
    with terminal.progress(len(cameras)) as advance:
        frames = _reported((draw(camera) for camera in cameras), advance)
        if options.out.suffix.lower() in CLIPS:
            write_clip(options.out, frames, options.fps)
        else:
            _write_folder(options.out, frames)
    print(options.out)
    return ExitCode.OK


def _check(options: RenderOptions) -> None:
    for value, allowed, words in (
        (options.size, options.size >= 16, "--size is 16 pixels or more"),
        (options.fps, 0 < options.fps <= 100, "--fps is above 0, up to 100"),
        (options.seconds, 0 < options.seconds <= 600, "--seconds is above 0, up to 600"),
        (options.elevation or 0, abs(options.elevation or 0) < 90, "--elevation is within 90"),
    ):
        if not allowed:
            raise UsageError(f"{words}, got {value:g}.")
    if options.seconds * options.fps < 2:
        raise UsageError("--seconds and --fps together are less than two frames.")
    if options.path in ("through", "views") and options.scene is None:
        raise UsageError(f"--path {options.path} needs the --scene whose cameras to use.")
    suffix = options.out.suffix.lower()
    if suffix and suffix not in CLIPS:
        raise UsageError(f"-o {options.out}: a clip is {', '.join(CLIPS)}; else name a folder.")
    if not options.out.parent.is_dir():
        raise FileNotFoundError(2, "there is no such folder; make it first", options.out.parent)
    if suffix and options.out.is_dir():
        raise UsageError(f"-o {options.out} is a folder; name a file.")
    taken = any(options.out.iterdir()) if options.out.is_dir() else options.out.exists()
    if taken and not options.overwrite:
        raise FileExistsError(17, "--overwrite is needed to replace", options.out)


def _subject(options: RenderOptions) -> "tuple[NDArray[np.float32], Renderer, str]":
    """The points of what is drawn, what draws it, and what it is."""
    from functools import partial

    from crispdepth.io.meshes import read_mesh
    from crispdepth.io.splats import read_splats
    from crispdepth.ops.rasterise import shade
    from crispdepth.tasks.render import gaussian_renderer

    background = BACKGROUNDS[options.background]
    if _is_mesh(options.source):
        mesh = read_mesh(options.source)
        draw = partial(shade, mesh, background=background)
        return mesh.vertices, draw, f"{len(mesh.faces)} triangles"
    gaussians = read_splats(options.source)
    draw_them = gaussian_renderer(gaussians, background, options.device)
    return gaussians.means, draw_them, f"{len(gaussians)} Gaussians"


def _is_mesh(path: Path) -> bool:
    """Whether it is a PLY file with faces.

    Raises:
        ValueError: it is a mesh of another format.
    """
    if path.suffix.lower() in (".glb", ".gltf", ".obj"):
        raise ValueError(f"{path}: meshes are drawn from .ply; give the PLY file of this mesh.")
    with path.open("rb") as file:
        head = file.read(1 << 14)
    return head.startswith(b"ply") and b"element face" in head.partition(b"end_header")[0]


def _cameras(options: RenderOptions, points: "NDArray[np.float32]") -> "tuple[Camera, ...]":
    import numpy as np

    from crispdepth.api.source_frame import in_source
    from crispdepth.geometry.backproject import camera_of_view
    from crispdepth.ops.resample import size_within
    from crispdepth.tasks.render import orbit_cameras, orbit_points, path_through

    count = round(options.seconds * options.fps)
    scene = _scene(options.scene)
    elevation = options.elevation
    if scene is None:
        size = options.size, options.size
        K = camera_of_view(size, 40).K
        up = np.array(UPS[options.up], float)
        height = 20.0 if elevation is None else elevation
        return orbit_points(points, up, K, size, height).cameras(K, size, count)
    cameras = tuple(
        in_source(camera, scene).resized(size_within(options.size, camera.size))
        for camera in scene.cameras
    )
    if options.path == "turntable":
        orbit = orbit_cameras(cameras)
        if elevation is not None:
            orbit = orbit._replace(elevation_deg=elevation)
        return orbit.cameras(cameras[0].K, cameras[0].size, count)
    return cameras if options.path == "views" else path_through(cameras, count)


def _scene(path: Path | None) -> "Scene | None":
    if path is None:
        return None
    from crispdepth.io.scenes import read_scene

    return read_scene(path)


def _reported(frames: "Iterable[Frame]", advance: Callable[[], object]) -> "Iterator[Frame]":
    for frame in frames:
        yield frame
        advance()


def _write_folder(folder: Path, frames: "Iterable[Frame]") -> None:
    from crispdepth.io.atomic import make_folder
    from crispdepth.io.images import write_image

    make_folder(folder)
    for old in folder.glob("[0-9][0-9][0-9][0-9].png"):
        old.unlink()
    for index, frame in enumerate(frames):
        write_image(folder / f"{index:04}.png", frame)
