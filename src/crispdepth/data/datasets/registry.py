"""The datasets by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.folder import open_folder
from crispdepth.data.datasets.hypersim import open_hypersim
from crispdepth.data.datasets.middlebury import open_middlebury
from crispdepth.data.datasets.mvsnet import open_blendedmvs, open_dtu
from crispdepth.data.datasets.nyu import open_nyu
from crispdepth.data.datasets.objaverse import open_objaverse
from crispdepth.data.datasets.rendered import open_rendered
from crispdepth.data.datasets.scannet import open_scannet
from crispdepth.data.datasets.scenes import open_scenes
from crispdepth.data.datasets.sevenscenes import open_sevenscenes
from crispdepth.data.datasets.tartanair import open_tartanair

DATASETS: Mapping[str, Callable[[str | Path], Sequence[RgbdFrame]]] = {
    "blendedmvs": open_blendedmvs,
    "dtu": open_dtu,
    "folder": open_folder,
    "hypersim": open_hypersim,
    "middlebury": open_middlebury,
    "nyu": open_nyu,
    "objaverse": open_objaverse,
    "rendered": open_rendered,
    "scannet": open_scannet,
    "scenes": open_scenes,
    "sevenscenes": open_sevenscenes,
    "tartanair": open_tartanair,
}


def open_dataset(name: str, root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of a dataset in one of the known formats, read when they are asked for.

    Raises:
        ValueError: there is no format of that name, or the files are not in it.
        FileNotFoundError: the folder does not exist or holds no frame.
        ImportError: an optional package is needed; the message names it.
    """
    if name not in DATASETS:
        raise ValueError(f"Unknown dataset format {name!r}; known are {', '.join(DATASETS)}.")
    return DATASETS[name](root)
