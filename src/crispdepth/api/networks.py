"""The networks that a job on posed photos asks, found and checked before any work is done."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from crispdepth.models.weights import (
    DEFAULT_MULTIVIEW,
    DEFAULT_STEREO,
    DEFAULT_VOLUME,
    load_multiview,
    load_stereo,
    load_volume,
    read_config,
)
from crispdepth.tasks.reconstruct_config import Method
from crispdepth.types import Camera

if TYPE_CHECKING:
    from crispdepth.models.multiview.network import MultiviewNetwork
    from crispdepth.models.volume.network import VolumeNetwork
    from crispdepth.models.volume.stereo import StereoNetwork

    DepthNetwork = MultiviewNetwork | StereoNetwork

Network = TypeVar("Network", covariant=True)


class Loaded(NamedTuple, Generic[Network]):
    """A network in evaluation mode, and the checksums of its weights."""

    network: Network
    sha256: dict[str, str]


def load_depth_network(method: Method, weights: str | None) -> "Loaded[DepthNetwork] | None":
    """What finds depth by a method; None: no network does.

    Args:
        method: see `crispdepth.tasks.reconstruct_config.ReconstructConfig`.
        weights: name or folder; None: those that are shipped for the method.

    Raises:
        ImportError: torch is not installed.
        OSError, ValueError: the weights are not there, or not those of such a network.
    """
    if method == "multiview":
        name = weights or DEFAULT_MULTIVIEW
        return Loaded(load_multiview(name), read_config(name)["sha256"])
    if method == "stereo":
        name = weights or DEFAULT_STEREO
        return Loaded(load_stereo(name), read_config(name)["sha256"])
    return None


def load_fusion_network(
    weights: str | None, cameras: Sequence[Camera], max_memory: float
) -> "Loaded[VolumeNetwork]":
    """The network of volumetric fusion.

    Args:
        weights: name or folder; None: the shipped ones.
        cameras: of the photos that it will be shown, in their size.
        max_memory: gigabytes that it may take.

    Raises:
        ImportError: torch is not installed.
        OSError, ValueError: the weights are not there, or not those of such a network, or the
            memory is too small for them.
    """
    name = weights or DEFAULT_VOLUME
    network = load_volume(name)
    from crispdepth.tasks.volume_fuse import require_memory

    require_memory(network, max_memory, max((each.size for each in cameras), key=math.prod))
    return Loaded(network, read_config(name)["sha256"])
