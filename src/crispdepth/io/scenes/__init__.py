"""Scenes: folders of posed photos in any known format to one `Scene`, and back.

Every foreign convention ends here: axes, units, distortion, names and polarity of masks.
"""

from crispdepth.io.scenes.export import write_colmap, write_transforms
from crispdepth.io.scenes.formats import Format, scenes_in
from crispdepth.io.scenes.read import NO_MASKS, OpenScene, open_scene, read_scene
from crispdepth.io.scenes.source import NoPhotoError

__all__ = [
    "NO_MASKS",
    "Format",
    "NoPhotoError",
    "OpenScene",
    "open_scene",
    "read_scene",
    "scenes_in",
    "write_colmap",
    "write_transforms",
]
