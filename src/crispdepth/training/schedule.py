"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

DROPS = (0.6, 0.8)
"""Shares of the steps after which the learning rate falls (Kim et al., CVPR 2022)."""

DROP = 0.1
"""What it is multiplied by at each of them."""


def learning_rate_factor(step: int, steps: int, *, warmup: int = 0) -> float:
    """What the learning rate is multiplied by at ``step`` of ``steps``, in (0, 1].

    Rises linearly over the first ``warmup`` steps, reaching 1 at the last of them, and falls
    tenfold at each of `DROPS`.

    Args:
        step: from 0 on.
        steps: of the whole training.
        warmup: 0 for none.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    fallen = sum(step >= share * steps for share in DROPS)
    return rise * float(DROP**fallen)
