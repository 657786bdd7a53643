"""What samples of volumes look like; imports nothing heavy, for it is flags of a command."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class VolumeSampleConfig:
    """What samples look like; chances are between 0 and 1."""

    volume: tuple[int, int, int] = (64, 64, 32)
    """Voxels along x, y and z, multiples of 4; z is up."""

    voxel: tuple[float, float] = (0.04, 0.08)
    """The smallest and the largest side of a voxel, in the unit of the dataset (m)."""

    size: tuple[int, int] = (240, 320)
    """Height and width of the photos, multiples of 16."""

    views: tuple[int, int] = (2, 6)
    """The fewest and the most views that are fused; the truth is that of up to `truth` views."""

    truth: int = 12
    """Views of a scene whose true depths make the true signed distances, those fused included."""

    synthetic: float = 0.5
    """Samples whose rough depth is the true one with synthetic errors, even where matching has
    found one."""

    tilted: float = 0.2
    """Samples of a world that stands anyhow, as that of structure from motion does; others are
    turned about the vertical alone."""

    pose_errors: float = 0.25
    """Samples whose cameras are a little off, by up to 1 degree and 1 cm."""

    masked: float = 0.15
    """Samples of an object alone, in scenes with instances: nothing else has a depth."""

    colour: float = 0.8
    """Samples whose colours change."""

    def __post_init__(self) -> None:
        """Raises ValueError: a number is out of range."""
        for name in ("synthetic", "tilted", "pose_errors", "masked", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name):g}.")
        if min(self.volume) < 4 or any(side % 4 for side in self.volume):
            raise ValueError(f"Sides of a volume must be multiples of 4, got {self.volume}.")
        if min(self.size) < 16 or any(side % 16 for side in self.size):
            raise ValueError(f"Sides of photos must be multiples of 16, got {self.size}.")
        if not 0 < self.voxel[0] <= self.voxel[1]:
            raise ValueError(f"Voxels have sides above 0, smallest first, got {self.voxel}.")
        if not 1 <= self.views[0] <= self.views[1] <= self.truth:
            raise ValueError(
                "Views to fuse are 1 or more, fewest first, and at most those of the truth, got "
                f"{self.views} and {self.truth}."
            )

    def faultless(self) -> "VolumeSampleConfig":
        """The same with right poses and colours, of whole scenes that stand: to measure on."""
        return replace(self, tilted=0.0, pose_errors=0.0, masked=0.0, colour=0.0)
