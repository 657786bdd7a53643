"""Which engine completes the layers: the options that `refine` and its followers share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from crispdepth.cli.errors import UsageError
from crispdepth.models.engines import DEFAULT_ENGINE, EngineName, make_completer

if TYPE_CHECKING:
    from crispdepth.types import LayerCompleter


@dataclass(frozen=True)
class EngineOptions:
    """What completes the two layers of a mask."""

    # learned: a network; classical: measures the blur at the mask's edge, no weights.
    engine: EngineName = DEFAULT_ENGINE

    # Weights of the learned engine: a name, or a folder that training exported. Without it, those
    # that are shipped.
    weights: Annotated[str | None, arg(metavar="NAME|DIR", help_behavior_hint="")] = None

    # Longer side in pixels at which the learned engine works; without it, 320.
    resolution: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None

    # The learned engine works tile by tile along the masks' boundaries: for a large --resolution.
    tiled: bool = False

    def load(self) -> "LayerCompleter":
        """The completer.

        Raises:
            UsageError: an option is not for this engine, or out of range.
            OSError, ValueError: the weights are not there, or are damaged.
        """
        if self.engine == "classical" and self != EngineOptions("classical"):
            raise UsageError("--weights, --resolution and --tiled are for --engine learned.")
        if self.resolution is not None and self.resolution < 32:
            raise UsageError(f"--resolution is at least 32; got {self.resolution}.")
        return make_completer(
            self.engine, weights=self.weights, resolution=self.resolution, tiled=self.tiled
        )
