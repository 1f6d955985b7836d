"""The report page with 5,000 cards: how long it takes to write, to appear and to filter in a headless Chromium.

Cards are pseudo masks (ellipses in the known boxes, resampled) of RefShapes. First paint and first cards are counted from
the start of navigation, a filter from the key press to the next frame after the cards have changed; medians.

    OMP_NUM_THREADS=1 python scripts/bench_report.py [--cards 5000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stages import prepare_data, pseudo_label, report, resample_points, split_masks

FILTERS = (
    ("words", "red left"),
    ("words", "a"),
    ("words", ""),
    ("sort", "-sc"),
    ("status", "kept"),
    ("status", ""),
)
# Sets a field, waits for the frame after the one that draws the new cards
FILTER = """([name, value]) => new Promise((done) => {
  const field = document.getElementById("filters").elements[name];
  const start = performance.now();
  field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def make_files(folder: Path) -> list[Path]:
    """A dataset of about 30,000 referents, and a pseudo mask for nearly all."""
    data, split, pseudo, points = (folder / f"{name}.h5" for name in ("data", "split", "pseudo", "points"))
    prepare_data.run(prepare_data.Config(scale="standard"), out=data)
    split_masks.run(split_masks.Config(count=1), dataset=data, out=split)
    start = pseudo_label.Config(start="ellipse", expressions_per_referent=1)
    pseudo_label.run(start, dataset=data, split=split, out=pseudo)
    resample_points.run(resample_points.Config(points=40), dataset=data, pseudo=pseudo, out=points)
    return [data, split, pseudo, points]


def measure(program: str, page_file: Path, repeats: int) -> dict[str, float]:
    """Medians in milliseconds."""
    from playwright.sync_api import sync_playwright

    paints, cards, filters = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_page()
            page.goto(page_file.as_uri())
            page.wait_for_selector(".card svg path")
            cards.append(page.evaluate("performance.now()"))
            paints.append(page.evaluate(PAINT))
            filters += [page.evaluate(FILTER, list(change)) for change in FILTERS]
            page.close()
        browser.close()
    return {
        "first paint": statistics.median(paints),
        "first cards": statistics.median(cards),
        "filter": statistics.median(filters),
        "slowest filter": max(filters),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cards", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    names = [os.environ.get("SEQRES_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    with tempfile.TemporaryDirectory() as temporary:
        files = make_files(Path(temporary))
        for cards in (options.cards // 2, options.cards):
            out = Path(temporary) / f"page-{cards}"
            start = time.perf_counter()
            report.run(report.Config(cards=cards), files=files, out=out)
            print(f"write {cards} cards: {time.perf_counter() - start:.1f} s")
        if program is None:
            print(
                "no Chromium found (apt-get install chromium, or set SEQRES_CHROMIUM): the page was not opened"
            )
            return
        for name, milliseconds in measure(program, out / "index.html", options.repeats).items():
            print(f"{name}: {milliseconds:.0f} ms")


if __name__ == "__main__":
    main()
