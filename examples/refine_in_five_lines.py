"""Refine the example photo from Python: ``python examples/refine_in_five_lines.py [FOLDER]``."""

import sys
from pathlib import Path

import crispdepth

parrots = Path(__file__).parent / "parrots"
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "refined")

refined = crispdepth.refine(f"{parrots}.jpg", f"{parrots}_depth.png", f"{parrots}_mask.png")
print(*refined.notes, sep="\n")  # what was assumed
print(f"{refined.changed.mean():.1%} of the pixels changed")
(layers,) = refined.layers  # one pair for each mask; `foreground` and `background` are (h, w)
print(f"written: {refined.save(folder)}")
