from pathlib import Path

from crispdepth.data.scenes3d.licences import LONGEST, licence_in


def test_the_nearest_document_counts_and_a_licence_before_a_readme(tmp_path: Path) -> None:
    deep = tmp_path / "assets/room/models"
    deep.mkdir(parents=True)
    root = tmp_path / "assets"
    (tmp_path / "LICENSE").write_text("Of what lies around the assets.")
    assert licence_in(deep, root) is None
    (root / "README.md").write_text(
        "# Things\n\nMade by hand.\n\nAll of it is CC BY 4.0,\nby me.\n"
    )
    assert licence_in(deep, root) == "All of it is CC BY 4.0, by me. (README.md)"
    (deep.parent / "Readme.txt").write_text("Nothing is said.")
    assert licence_in(deep, root) == "unknown: see room/Readme.txt"
    (deep.parent / "LICENCE").write_text("\nCC0 1.0\n\nThe long text.")
    assert licence_in(deep, root) == "CC0 1.0 (room/LICENCE)"


def test_long_texts_are_cut(tmp_path: Path) -> None:
    (tmp_path / "COPYING").write_text("word " * 999)
    text = licence_in(tmp_path, tmp_path)
    assert text is not None
    assert len(text) == LONGEST + len(" (COPYING)")
