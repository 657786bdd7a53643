"""What samples of several views look like; imports nothing heavy, for it is flags of a command."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class MultiviewSampleConfig:
    """What samples look like; all but ``zoom`` are chances between 0 and 1."""

    zoom: float = 0.65
    """Smallest crop, as a share of the largest one that fits in the frame."""

    close: float = 0.5
    """Samples with a mask that are cropped about the object, however small."""

    masked_objects: float = 0.8
    """Samples with a mask, of scenes about an object."""

    masked_others: float = 0.3
    """Samples with a mask, of other scenes with instances."""

    rgba: float = 0.5
    """Samples with a mask that show nothing but the object."""

    object_range: float = 0.6
    """Other samples with a mask whose range of depths is that of the object alone."""

    untold: float = 0.15
    """Samples with a mask of which the network is told nothing."""

    wrong: float = 0.4
    """Samples with a mask that is wrong; that of each view is wrong in its own way."""

    incomplete: float = 0.2
    """Samples with a mask that is missing in some views."""

    missing: float = 0.4
    """Views of these in which it is missing."""

    colour: float = 1.0
    """Samples whose colours change."""

    mirrored: float = 0.5
    """Mirrored samples."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1 or (name == "zoom" and value == 0):
                raise ValueError(f"{name} must be between 0 and 1, got {value:g}.")

    def faultless(self) -> "MultiviewSampleConfig":
        """The same with masks that are right and told, and colours as they are: to measure on."""
        return replace(self, untold=0.0, wrong=0.0, incomplete=0.0, colour=0.0)
