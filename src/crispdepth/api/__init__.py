"""What the package does, from whatever the caller holds to whatever is asked for."""

from crispdepth.api.files import (
    DEFAULT_FORMATS,
    DEPTH_FORMATS,
    FORMATS,
    Written,
    check_formats,
    save,
    write_files,
)
from crispdepth.api.photo import estimate_depth, refine, refine_values
from crispdepth.api.pictures import Picture

__all__ = [
    "DEFAULT_FORMATS",
    "DEPTH_FORMATS",
    "FORMATS",
    "Picture",
    "Written",
    "check_formats",
    "estimate_depth",
    "refine",
    "refine_values",
    "save",
    "write_files",
]
