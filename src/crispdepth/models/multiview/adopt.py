"""Weights of one multi-view network in another that has more parts, or fewer."""

from collections.abc import Mapping

from torch import Tensor

from crispdepth.models.multiview.network import MultiviewNetwork

ADDED = (
    "pyramid.lateral.",
    "pyramid.gates.",
    "pyramid.adaptive.",
    "regulariser.mask.",
    "regulariser.gates.",
    "residual.gates.",
    "separable.",
    "gaussians.",
    "monocular.",
    "from_monocular.",
    "edges.",
    "blend.",
    "filter_quarter.hull",
    "filter_half.hull",
    "correlate_quarter.trust.",
    "correlate_half.trust.",
)
"""Parts that a network may have or not: with their first weights they change nothing, or next to
nothing (`EdgeVolume` of the convex kind)."""

FINER = ("correlate_half.", "filter_half.")
"""The finer sweep, which a network may do without."""


def adopt(
    network: MultiviewNetwork, tensors: Mapping[str, Tensor], *, surplus: bool = False
) -> None:
    """Load the weights of a network with fewer parts, such as one without masks.

    What it did not have keeps its first weights, so the answer is the same.

    Args:
        network: is changed in place.
        tensors: by name.
        surplus: parts that this network has not are left out; else they are an error.

    Raises:
        ValueError: the networks differ in more than parts.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in tensors and not name.startswith(ADDED)]
    unknown = [
        name
        for name in tensors
        if name not in own and not (surplus and name.startswith(ADDED + FINER))
    ]
    if missing or unknown:
        raise ValueError(
            "These weights are of another network: "
            + "; ".join(
                f"{what} {', '.join(names[:3])}{' ...' * (len(names) > 3)}"
                for what, names in (("they lack", missing), ("it has no", unknown))
                if names
            )
            + ". Only parts that masks need, and other switches, may differ."
        )
    try:
        network.load_state_dict({name: tensors.get(name, own[name]) for name in own})
    except RuntimeError as error:
        raise ValueError(
            f"These weights are of another network: {str(error).splitlines()[-1].strip()}"
        ) from error
