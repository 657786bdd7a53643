"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from typing import Literal

Decay = Literal["tenfold", "halved"]

DECAYS: dict[Decay, tuple[float, tuple[float, ...]]] = {
    "tenfold": (0.1, (0.6, 0.8)),  # Kim et al., CVPR 2022
    "halved": (0.5, (0.5,)),  # Choe et al., ICCV 2021: after 50 of 100 epochs
}
"""What the learning rate is multiplied by, and after which shares of the steps."""


def learning_rate_factor(
    step: int, steps: int, *, warmup: int = 0, decay: Decay = "tenfold"
) -> float:
    """What the learning rate is multiplied by at ``step`` of ``steps``, in (0, 1].

    Rises linearly over the first ``warmup`` steps, reaching 1 at the last of them, and falls
    as `DECAYS` says.

    Args:
        step: from 0 on.
        steps: of the whole training.
        warmup: 0 for none.
        decay: which of them.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    drop, shares = DECAYS[decay]
    return rise * float(drop ** sum(step >= share * steps for share in shares))
