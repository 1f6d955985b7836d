"""Artifacts of every kind, and shards of predict: what is damaged, and what is called on it.

A case reads what it damaged, in every way in which a command reads that kind. What draws (charts, pages) and what works
on masks takes a hundred times as long as reading, so of these a case does one in eight.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from stages.errors import SeqresError
from tests.fuzz.mutations import damaged_bytes, json_text
from tests.fuzz.runner import Read, copied
from tests.oracles.small_artifacts import write_dataset, write_pseudo, write_split

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "artifacts"
_SELDOM = 8
Use = Callable[[Path, Path], None]


def damage_bytes(path: Path, rng: Random) -> None:
    path.write_bytes(damaged_bytes(path.read_bytes(), rng))


class Artifacts:
    """Artifacts of every kind, opened as inspect, verify and the stages open them."""

    def __init__(self, name: str, damage: Callable[[Path, Random], None]) -> None:
        self.name, self._damage = name, damage

    def prepare(self, folder: Path) -> None:
        from stages import evaluate, pseudo_label, resample_points
        from tests.oracles.random_models import write_random_model

        data = write_dataset(folder / "dataset.h5", ["train"] * 4 + ["val"], pictures=True)
        split = write_split(folder / "split.h5", data, [True, False, True, False, False])
        rings = [(r, 2 * r, 0.9, [(6, 11), (20, 12), (15, 35)]) for r in range(4)]
        pseudo = write_pseudo(folder / "pseudo.h5", data, rings, n_points=3)
        resample_points.run(
            resample_points.Config(score_threshold=2.0), dataset=data, pseudo=pseudo, out=folder / "points.h5"
        )
        model = write_random_model(folder / "model.h5", "second look, box-contour")
        evaluate.run(evaluate.Config(device="cpu"), dataset=data, model=model, out=folder / "evaluation.h5")
        for i in (1, 2):
            shard = pseudo_label.Config(device="cpu", shard=f"{i}/2", batch_images=1)
            pseudo_label.run(shard, dataset=data, split=split, model=model, out=folder / f"shard{i}.h5")
        for kind in ("attention", "split", "dataset", "evaluation", "rec_model", "pseudo_shard"):
            shutil.copy(GOLDEN / f"{kind}-v1.h5", folder / f"old_{kind}.h5")

    def warm(self, here: Path, folder: Path) -> None:
        for path in sorted(here.glob("*.h5")):
            for use in _uses(path):
                use(here, path)
                _remove_written(here)

    def case(self, seeds: Path, folder: Path, rng: Random) -> Read:
        here = copied(seeds, folder)
        path = rng.choice(sorted(here.glob("*.h5")))
        uses = [use for use in _uses(path) if use not in _SLOW or rng.randrange(_SELDOM) == 0]
        self._damage(path, rng)
        return lambda: _all_of(uses, here, path)


def _all_of(uses: list[Use], here: Path, path: Path) -> None:
    told: list[SeqresError] = []
    for use in uses:
        try:
            use(here, path)
        except SeqresError as error:
            told.append(error)
    if told:
        raise told[0]


def _remove_written(here: Path) -> None:
    for name in _WRITTEN:
        shutil.rmtree(here / name, ignore_errors=True)
        (here / f"{name}.h5").unlink(missing_ok=True)


_WRITTEN = ("drawn", "again", "out", "exported", "page", "page_of_all", "merged", "refined")


def _inspect(here: Path, path: Path) -> None:
    from seqres_cli.commands.inspect import describe, description_lines
    from seqres_cli.output import Answer, print_answer
    from stages.artifacts import open_artifact

    with open_artifact(path, check=False) as artifact:
        record = describe(artifact)
        print_answer(Answer(record, description_lines(record)), as_json=True)


def _verify(here: Path, path: Path) -> None:
    from stages.artifacts import verify_artifact

    verify_artifact(path)


def _dataset(here: Path, path: Path) -> None:
    from stages.data.dataset import ReferringDataset
    from stages.data.exports.items import labels_of

    data = ReferringDataset.open(path, split=here / "split.h5", masks="training")
    for r in range(min(3, len(data.ref_ids))):
        data.image(int(data.referent_image[r]))
        if data.mask_visible[r]:
            data.mask(r)
        data.sentences_of(np.array([r]))
    labels_of(path, None, None, ["train"])


def _draw(here: Path, path: Path) -> None:
    from stages.figures.photo_masks import draw_photographs
    from stages.reporter import SilentReporter

    pseudo = path if path.stem == "pseudo" else here / "pseudo.h5"
    draw_photographs(here / "dataset.h5", pseudo, here / "drawn", SilentReporter(), missing_only=True)


def _refine(here: Path, path: Path) -> None:
    from stages import refine_masks

    refine_masks.run(
        refine_masks.Config(), dataset=here / "dataset.h5", pseudo=here / "pseudo.h5", out=here / "refined.h5"
    )


def _split(here: Path, path: Path) -> None:
    from stages import split_masks
    from stages.artifacts import open_artifact
    from stages.data.dataset import ReferringDataset, seen_referents

    with open_artifact(path, "split") as artifact:
        seen_referents(artifact)
    data = ReferringDataset.open(here / "dataset.h5", split=path, masks="training")
    data.mask_visible.sum()
    split_masks.run(split_masks.Config(ratio=0.5), dataset=here / "dataset.h5", out=here / "again.h5")


def _pseudo(here: Path, path: Path) -> None:
    from stages import resample_points
    from stages.data.exports.items import labels_of

    resample_points.run(
        resample_points.Config(), dataset=here / "dataset.h5", pseudo=path, out=here / "out.h5"
    )
    labels_of(here / "dataset.h5", path, None)


def _points(here: Path, path: Path) -> None:
    from stages.data.exports.items import labels_of
    from stages.metrics.hidden_truth import audit_pseudo_labels

    labels_of(here / "dataset.h5", path, None)
    audit_pseudo_labels(here / "dataset.h5", here / "pseudo.h5", path)


def _evaluation(here: Path, path: Path) -> None:
    from stages.data.exports.items import labels_of
    from stages.metrics.tables import comparison

    comparison([path])
    labels_of(here / "dataset.h5", path, None)


def _model(here: Path, path: Path) -> None:
    import torch

    from stages.artifacts import open_artifact
    from stages.weights.exchange import read_folder, write_folder
    from stages.weights.model_file import held_out_referents_of, load_model, weights_chosen_by

    with open_artifact(path, ("rec_model", "res_model")) as artifact:
        weights_chosen_by(artifact)
        held_out_referents_of(artifact, "0" * 64)
        torch.set_num_threads(1)
        load_model(path)
        (here / "exported").mkdir()
        write_folder(artifact, here / "exported")
    read_folder(here / "exported")


def _report(here: Path, path: Path) -> None:
    from stages import report

    report.run(report.Config(cards=3), files=[here / "dataset.h5", path], out=here / "page")


def _report_of_all(here: Path, path: Path) -> None:
    from stages import report

    names = [here / f"{name}.h5" for name in ("dataset", "split", "pseudo", "points", "evaluation")]
    report.run(report.Config(cards=3), files=names, out=here / "page_of_all")


def _attention(here: Path, path: Path) -> None:
    from stages.artifacts import open_artifact

    with open_artifact(path, "attention") as artifact:
        artifact.json("summary")
        for name in ("maps", "points_xy", "step_of_point", "tokens"):
            list(artifact.ragged(name))


def _shards(here: Path, path: Path) -> None:
    from stages import merge

    files = [path] if path.stem.startswith("old") else [here / "shard1.h5", here / "shard2.h5"]
    merge.run(merge.Config(), files=files, out=here / "merged.h5")


_USES: dict[str, tuple[Use, ...]] = {
    "dataset": (_dataset, _draw, _refine, _report, _report_of_all),
    "split": (_split, _report, _report_of_all),
    "pseudo": (_pseudo, _draw, _refine, _report, _report_of_all),
    "points": (_points, _report, _report_of_all),
    "evaluation": (_evaluation, _report, _report_of_all),
    "model": (_model,),
    "shard1": (_shards,),
    "shard2": (_shards,),
    "old_attention": (_attention,),
    "old_pseudo_shard": (_shards,),
}
_SLOW = (_draw, _refine, _report, _report_of_all)


def _uses(path: Path) -> tuple[Use, ...]:
    return (_inspect, _verify, *_USES.get(path.stem, ()))


class Shards:
    """Shards of predict, joined by merge where nothing lies yet, and where the joined document does."""

    name = "predict-shards"

    def prepare(self, folder: Path) -> None:
        from stages import predict
        from tests.oracles.random_models import write_random_model
        from tests.oracles.tool_files import picture

        picture(folder / "a.png")
        model = write_random_model(folder / "model.h5", "box-contour")
        for i in (1, 2):
            predict.run(
                predict.Config(device="cpu", shard=f"{i}/2", batch_size=1), model=model, image=folder / "a.png",
                phrase=["red", "mug", "the red mug"], out=folder / f"shard{i}.json",
            )  # fmt: skip
        self._merge(folder)
        (folder / "whole.json").rename(folder / "old.json")

    def warm(self, here: Path, folder: Path) -> None:
        self._merge(here)

    def case(self, seeds: Path, folder: Path, rng: Random) -> Read:
        here = copied(seeds, folder)
        path = here / rng.choice(("shard1.json", "shard2.json", "old.json"))
        path.write_bytes(self._damage(path.read_bytes(), path, rng))
        if path.stem == "old":
            path.rename(here / "whole.json")
        return lambda: self._merge(here)

    def _damage(self, data: bytes, path: Path, rng: Random) -> bytes:
        return json_text(json.loads(data), rng)

    def _merge(self, here: Path) -> None:
        from seqres_cli.commands.merge import COMMAND
        from seqres_cli.output import print_answer
        from seqres_cli.stage_command import _stage_answer
        from stages import merge

        result = merge.run(
            merge.Config(), files=[here / "shard1.json", here / "shard2.json"], out=here / "whole.json"
        )
        print_answer(_stage_answer(COMMAND, result), as_json=True)
        print_answer(_stage_answer(COMMAND, result), as_json=False)
