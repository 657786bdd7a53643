"""Under which licence assets are: what the people who packed them wrote beside them."""

import re
from pathlib import Path

OWN = "CC0 1.0"
"""The licence of everything that scenes invent themselves."""

LONGEST = 300  # characters of a licence that are quoted

_DOCUMENTS = (re.compile(r"licen[cs]e|copying", re.IGNORECASE), re.compile("readme", re.IGNORECASE))
_SAYS_SO = re.compile(r"licen[cs]e|\bCC0\b|\bCC[ -]BY\b|public domain", re.IGNORECASE)


def licence_in(folder: Path, root: Path) -> str | None:
    """What the nearest LICENSE or README says, in a folder or one above it, up to ``root``.

    Quoted are the first paragraph of a licence, or the one of a README that tells of a licence, and
    the name of the document. None if there is no document.

    Raises:
        OSError: a document cannot be read.
    """
    for place in (folder, *folder.parents):
        for pattern in _DOCUMENTS:
            for document in sorted(place.iterdir()):
                if pattern.match(document.name) and document.is_file():
                    return _quoted(document, document.relative_to(root), pattern)
        if place == root:
            break
    return None


def _quoted(document: Path, name: Path, pattern: re.Pattern[str]) -> str:
    text = document.read_text("utf-8", errors="replace")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if pattern is _DOCUMENTS[1]:
        paragraphs = [part for part in paragraphs if _SAYS_SO.search(part)]
    if not paragraphs:
        return f"unknown: see {name.as_posix()}"
    return f"{paragraphs[0][:LONGEST]} ({name.as_posix()})"
