"""The mask of what a photo shows, found by a network: rembg, from the extra ``masks``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispdepth.ops.images import eight_bit

DEFAULT_MASK_MODEL = "u2net"
"""Apache-2.0, 176 MB. What rembg itself takes by default has 1 GB, and its licence wants a paid
agreement for commercial use."""


class SalientMask:
    """Finds the object in the foreground; loaded once, for many photos."""

    def __init__(self, model: str = DEFAULT_MASK_MODEL) -> None:
        """Load the network that rembg calls ``model``, from where rembg keeps it or fetches it to.

        Raises:
            ImportError: rembg is not installed.
            OSError: the network cannot be fetched or read.
            ValueError: rembg has no such network that runs on this machine.
        """
        try:
            from rembg import new_session

            # Others send the photo to a service.
            from rembg.sessions import sessions_names_downloadable as names
        except ImportError as error:
            raise ImportError(
                'Automatic masks need rembg: pip install "crispdepth[masks]"'
            ) from error
        if model not in names:
            raise ValueError(
                f"rembg has no network {model!r} to run here; it has {', '.join(sorted(names))}."
            )
        try:
            self._session = new_session(model)
        except Exception as error:  # of the download, or of the runtime that reads the file
            raise OSError(
                f"The network {model!r} of rembg cannot be loaded: fetch it where there is a "
                f"network connection, and put {model}.onnx into the folder that the variable "
                f"U2NET_HOME names. {type(error).__name__}: {error}"
            ) from error
        self.name = model

    @property
    def facts(self) -> dict[str, object]:
        """What decides its answers, JSON values."""
        return {"mask_model": self.name}

    def __call__(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """The soft mask, (n, h, w) with 255 inside, of a photo (h, w, 3) uint8 or uint16.

        Raises:
            ValueError: nothing stands out, or everything does.
        """
        with np.errstate(invalid="ignore"):  # rembg stretches a constant answer
            found = self._session.predict(Image.fromarray(eight_bit(image)))
        masks = np.stack([np.asarray(mask, np.uint8) for mask in found])
        inside = masks >= 128
        if not inside.any() or inside.all():
            raise ValueError(
                f"the network {self.name!r} found no object in this photo: give a --mask file, or "
                "try another --mask-model"
            )
        return masks
