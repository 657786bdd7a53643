"""Commands that need torch say so in one line where it is not installed."""

from crispdepth.cli.errors import UsageError


def require_torch(what: str) -> None:
    """Raise an ImportError that names the extra if there is no torch.

    Args:
        what: the beginning of the message, such as "Rendering Gaussians".
    """
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise ImportError(f'{what} needs torch: pip install "crispdepth[torch]"')


def require_network(method: str, weights: str | None) -> None:
    """Refuse weights for matching that has none (UsageError)."""
    if weights is not None and method == "classical":
        raise UsageError(
            "--weights are of a network: add --method multiview or --method stereo, or leave them "
            "out."
        )


def require_device(name: str) -> None:
    """Refuse a device that is not there, before any work (UsageError)."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name} cannot be used here; --device cpu can.") from error
