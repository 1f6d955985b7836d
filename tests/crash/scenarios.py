"""Every command that writes, with what it writes, on inputs as small as they can be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SHORT = (
    "--epochs 2 --steps-per-epoch 2 --batch-images 2 --expressions-per-image 1 --validation-expressions 2 "
    "--save-every 1 --device cpu"
)
_DATA = "--dataset {base}/dataset.h5"
_SPLIT = "--split {base}/split.h5"
_PSEUDO = "--pseudo {base}/pseudo.h5"
_REC = f"train-rec {_DATA} {_SHORT} --epochs 1"
_RES = f"train-res {_DATA} {_SPLIT} --rec {{base}}/rec.h5 {_SHORT} --zoom 64"
_PREDICT = "predict --model {base}/res.h5 --table {base}/photos.csv --device cpu"
_PSEUDO_LABEL = f"pseudo-label {_DATA} {_SPLIT} --model {{base}}/res.h5 --device cpu --max-referents 6"

# Made once, in this order, in the folder {base}
INPUTS = {
    "dataset.h5": "prepare-data --source refer --root {base}/layout --name refshapes --by unc --embed-images",
    "split.h5": f"split-masks {_DATA} --ratio 0.3",
    "rec.h5": _REC,
    "res.h5": _RES.replace("--epochs 2", "--epochs 1"),
    "pseudo.h5": _PSEUDO_LABEL,
    "shard-1.h5": f"{_PSEUDO_LABEL} --shard 1/2",
    "shard-2.h5": f"{_PSEUDO_LABEL} --shard 2/2",
    "refined.h5": f"refine-masks {_DATA} {_PSEUDO}",
    "points.h5": f"resample-points {_DATA} {_PSEUDO} --score-threshold 2 --min-confidence 0",
    "eval.h5": f"evaluate {_DATA} --model {{base}}/res.h5 --max-expressions 3 --device cpu",
    "attention.h5": f"visualize-attention {_DATA} --model {{base}}/res.h5 --samples 1 --device cpu",
    "exported": "export-weights --model {base}/res.h5",
    "exported-rec": "export-weights --model {base}/rec.h5",
}
_MADE_BY_HAND = {"photos.csv": ["dataset.h5"], "decisions.json": ["pseudo.h5"]}  # after which others


@dataclass(frozen=True)
class Scenario:
    """`words` write `outputs` (the first is --out); `old` is another call whose outputs bear the same names."""

    name: str
    words: str
    old: str
    outputs: tuple[str, ...]
    training: bool = False
    force: bool = True  # False: what is there is replaced without being asked

    def call(self, base: Path, *, old: bool = False) -> list[str]:
        return [*(self.old if old else self.words).format(base=base).split(), "--out", self.outputs[0]]


def _scenario(
    name: str, words: str, change: str, *outputs: str, training: bool = False, force: bool = True
) -> Scenario:
    return Scenario(name, words, f"{words} {change}", outputs, training, force)


SCENARIOS = [
    _scenario("prepare-data", INPUTS["dataset.h5"], "--no-embed-images", "o.h5"),
    _scenario("prepare-data-generated", "prepare-data --scale tiny", "--seed 1", "o.h5"),
    _scenario("split-masks", f"split-masks {_DATA} --count 3 --export-list list.csv", "--seed 1", "o.h5", "list.csv"),
    _scenario("train-rec", f"train-rec {_DATA} {_SHORT}", "--seed 1 --epochs 1", "o.h5", training=True),
    _scenario("train-rec-rounds", f"{_REC} --retrain-rounds 1", "--seed 1", "o.h5", training=True),
    _scenario("train-res", _RES, "--seed 1 --epochs 1", "o.h5", training=True),
    _scenario("pseudo-label", _PSEUDO_LABEL, "--max-referents 3", "o.h5"),
    Scenario("merge", "merge {base}/shard-1.h5 {base}/shard-2.h5", f"{_PSEUDO_LABEL} --max-referents 3", ("o.h5",)),
    Scenario(
        "refine-masks", f"{INPUTS['refined.h5']} --overlays drawn", f"refine-masks {_DATA} --start box --overlays drawn",
        ("o.h5", "drawn"),
    ),
    _scenario("resample-points", INPUTS["points.h5"], "--n-points 9", "o.h5"),
    _scenario(
        "resample-points-reviewed", INPUTS["points.h5"] + " --decisions {base}/decisions.json", "--n-points 9", "o.h5"
    ),
    _scenario("evaluate", INPUTS["eval.h5"], "--max-expressions 2", "o.h5"),
    _scenario("visualize-attention", INPUTS["attention.h5"], "--seed 1", "o.h5", "o_figures"),
    _scenario(
        "predict", f"{_PREDICT} --overlays drawn", "--batch-size 1 --segmenter grabcut", "o.json", "drawn"
    ),
    _scenario("export-file", f"export {_DATA} --to coco", "--split-name val", "o.json"),
    _scenario("export-folder", f"export {_DATA} --to png --split-name val", "--split-name testA", "o"),
    Scenario("export-weights", INPUTS["exported"], INPUTS["exported-rec"], ("o",)),
    Scenario(
        "import-weights", "import-weights --source {base}/exported", "import-weights --source {base}/exported-rec", ("o.h5",)
    ),
    _scenario(
        "report", "report {base}/dataset.h5 {base}/split.h5 {base}/refined.h5 {base}/eval.h5 --cards 4", "--cards 2", "o", force=False,
    ),
]  # fmt: skip


def needed_by(scenarios: Iterable[Scenario]) -> list[str]:
    """Names in {base} that these scenarios read, in the order in which they can be made."""
    found: list[str] = []

    def add(words: str) -> None:
        for name in re.findall(r"\{base\}/([\w.-]+)", words):
            if name in found or name not in {*INPUTS, *_MADE_BY_HAND}:
                continue
            for before in _MADE_BY_HAND.get(name, ()):
                add(f"{{base}}/{before}")
            add(INPUTS.get(name, ""))
            found.append(name)

    for scenario in scenarios:
        add(scenario.words)
        add(scenario.old)
    return found
