"""Claim: of all these pictures without clothes, `clothes` calls at least 95 % not sure.

    python benchmarks/no_clothes.py --pictures DIR

Counts the verdicts for the pictures in each folder of DIR, with all below it. A folder is a row of
`no_clothes.csv`; finished rows are skipped. Prints the table of docs/photos.md. The rows are of
pictures in packages of Debian 12: `stamps` of tuxpaint-stamps-default (drawings and photos of
single things, cut out; without its folder `clothes`), `samples` of opencv-doc (`examples/data` and
`examples/text`), `wallpapers` of gnome-backgrounds, mate-backgrounds and ukui-wallpapers; and
`scikit-image` of that Python package (`skimage/data`). `drawings` are those of tests/drawn.py, 10
of each kind; they need no folder.
Seeds: none. Machine: any. Duration: two minutes.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
DESCRIPTIONS = {
    "samples": "sample pictures of OpenCV",
    "scikit-image": "sample pictures of scikit-image",
    "wallpapers": "photos and drawings for the background of a screen",
    "stamps": "single things, photographed or drawn, on white",
    "drawings": "drawn noise, text, faces and landscapes",
}


def read_pictures(folder: Path) -> list:
    """Return the pictures below a folder; for `drawings`, the drawings of the tests."""
    if folder.name == "drawings":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from drawn import NO_CLOTHES

        return [draw(seed) for draw in NO_CLOTHES.values() for seed in range(10)]
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    return sorted(str(x) for x in folder.rglob("*") if x.suffix.lower() in suffixes)


def count(folder: Path, source: str) -> dict[str, object]:
    """Return how many pictures of a source get each verdict."""
    from fashion_cnn import Classifier

    pictures = read_pictures(folder / source)
    classifier = Classifier.load("clothes")
    verdicts = [classifier.predict(picture).verdict for picture in pictures]
    row = {verdict: verdicts.count(verdict) for verdict in ("sure", "unsure", "unknown")}
    return {"pictures": len(pictures)} | row | results.machine_columns(("onnxruntime",))


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/photos.md: percentages of each source."""
    lines = []
    for source, description in DESCRIPTIONS.items():
        for row in results.select(rows, source=source):
            total = int(row["pictures"])
            shares = [f"{int(row[x]) / total:.1%}" for x in ("sure", "unsure", "unknown")]
            lines.append([description, total, *shares])
    return results.markdown_table(
        ["pictures of no clothes", "n", "sure", "unsure", "unknown"], lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True)
    arguments = parser.parse_args()
    sources = [x.name for x in arguments.pictures.iterdir() if x.name in DESCRIPTIONS]
    keys = [{"source": source} for source in [*sources, "drawings"]]
    print(table(results.run_missing(ROWS, keys, partial(count, arguments.pictures))))


if __name__ == "__main__":
    main()
