"""`seqres reproduce`: the experiments as steps, and what the command says."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.commands import COMMANDS
from seqres_cli.commands.reproduce import make_plan, read_seeds
from seqres_cli.experiments import session
from seqres_cli.experiments.settings import Settings
from seqres_cli.experiments.workflow import Step
from stages.config import semantic_dict
from stages.errors import UsageError
from stages.models.presets import preset
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.stand_in import install_stand_in

Seqres = Callable[..., Any]
NAMES = ("refshapes", "table1", "figure1")
OUT = Path("/nowhere/out")
FURTHER = {
    "refshapes": [
        "ablation",
        "curve",
        "attention",
        "rpp-anew",
        "grabcut",
        "refined-strict",
        "short",
        "weighting",
        "keep-encoder",
        "anew",
    ],
    "table1": ["all"],
}


@functools.cache
def steps(settings: Settings) -> dict[str, Step]:
    """All steps of all experiments, which share a folder, by their file."""
    plans = [make_plan(name, settings, OUT, FURTHER.get(name, [])) for name in NAMES]
    targets = dict.fromkeys(target for plan in plans for target in plan.targets)
    both = dataclasses.replace(plans[0], targets=tuple(targets))
    return {step.out: step for step in session.steps_of(both, settings, OUT, session.Machines())[0]}


@functools.cache
def config_of(words: tuple[str, ...]) -> dict[str, Any]:
    """What a call resolves to."""
    answer = COMMANDS[words[0]].build().main([*words[1:], "--print-config"], standalone_mode=False, obj={})
    config: dict[str, Any] = answer.payload["config"][words[0]]
    return config


def config(settings: Settings, out: str) -> dict[str, Any]:
    return config_of(steps(settings)[out].words)


STANDARD = Settings(scale="standard", seeds=(0,), device="cpu")


@pytest.mark.parametrize(
    ("scale", "count", "digest"),
    [
        ("tiny", 156, "8c7e4602df6ef198"),
        ("smoke", 199, "9fa4974c0459a7d7"),
        ("standard", 239, "baadb09cfc794fb6"),
    ],
)
def test_no_file_of_an_earlier_version_is_made_again(scale: str, count: int, digest: str) -> None:
    """Over all steps and what their recipes make of the defaults: another number here means hours of work for somebody.

    The numbers are those since MDETR's masks are learned with naive's jitter and flips; a change is told in CHANGELOG under "Artifacts".
    """
    lines = []
    for out, step in steps(dataclasses.replace(STANDARD, scale=scale)).items():
        stage = COMMANDS[step.words[0]].load()
        default = semantic_dict(stage.Config())
        semantic = semantic_dict(stage.Config(**config_of(step.words)))
        chosen = {name: value for name, value in semantic.items() if value != default.get(name)}
        lines.append(json.dumps([out, step.words[0], sorted(step.inputs), chosen], sort_keys=True))
    assert (len(lines), hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]) == (count, digest)


def test_mdetr_learns_masks_from_what_naive_learns_from() -> None:
    names = (
        "epochs", "steps_per_epoch", "batch_images", "expressions_per_image", "jitter_min", "jitter_max", "mirror", "colour",
        "text_lr_factor",
    )  # fmt: skip
    seen = [
        {name: config(STANDARD, f"seed0/first-{recipe}-0.01.h5")[name] for name in names}
        for recipe in ("naive", "mdetr-published", "mdetr", "siri")
    ]
    assert all(other == seen[0] for other in seen[1:]), seen


def test_both_curves_of_the_full_method_have_one_budget() -> None:
    """Only the labels differ, at every share of the masks, so that the curves tell what pseudo labels are worth."""
    rows = {r.name: r for r in make_plan("refshapes", STANDARD, OUT, ["curve"]).report.rows}
    pairs = [
        ("more-steps", "refined"),
        *((f"full@{share}", f"pseudo@{share}") for share in ("0.5", "5", "10")),
    ]
    for plain, labelled in pairs:
        budgets = [
            [config(STANDARD, str(training.relative_to(OUT))) for training in rows[name].runs[0].trainings]
            for name in (plain, labelled)
        ]
        assert budgets[0] == budgets[1]
        assert not rows[plain].runs[0].labels and rows[labelled].runs[0].labels


def test_rows_share_what_they_have_in_common() -> None:
    stages_of = [step.words[0] for step in steps(STANDARD).values()]
    assert stages_of.count("prepare-data") == 1
    assert stages_of.count("train-rec") == 5  # SeqTR, two of MDETR, SiRi and its control
    fits = [s for s in steps(STANDARD).values() if s.words[2:3] == ("refshapes-standard:fit",)]
    curves = [
        s for s in steps(STANDARD).values() if s.out == "seed0/points-zoom-augmented-box-all-curve-0.01.h5"
    ]
    assert fits[0].inputs == curves[0].inputs, "the same labels, kept in two ways"


def test_refined_labels_are_learned_from_and_measured() -> None:
    plan = make_plan("refshapes", STANDARD, OUT, ["curved", "refined"])
    plain, refined = (row.runs[0] for row in plan.report.rows if row.name in ("curved", "refined"))
    ((pseudo, points),) = [[file.relative_to(OUT).as_posix() for file in pair] for pair in refined.labels]
    made = steps(STANDARD)
    assert made[pseudo].words[0] == "refine-masks"
    assert plain.labels[0][0].relative_to(OUT).as_posix() in made[pseudo].inputs, (
        "the same labels, predicted once"
    )
    assert pseudo in made[points].inputs
    assert refined.model is not None and refined.model != plain.model
    assert points in made[refined.model.relative_to(OUT).as_posix()].inputs


def test_seeds_change_splits_and_trainings_but_not_the_data() -> None:
    two = Settings(scale="tiny", seeds=(3, 4))
    assert config(two, "dataset.h5")["seed"] == 0
    for seed in (3, 4):
        for name in ("rec", "split-0.3", "first-naive-0.3", "round1-zoom-augmented-all-0.3"):
            assert config(two, f"seed{seed}/{name}.h5")["seed"] == seed
        assert config(two, f"seed{seed}/siri1.h5")["seed"] == 1000 + seed


def test_an_existing_dataset_takes_the_place_of_the_generated_one(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "own.h5", ["train"] * 4 + ["val"])
    found = steps(Settings(dataset=data, seeds=(0,)))
    assert "dataset.h5" not in found
    assert all(step.words[step.words.index("--dataset") + 1] == str(data) for step in found.values())


def test_every_part_builds_on_a_row_that_is_there(tmp_path: Path) -> None:
    report = make_plan("refshapes", Settings(), tmp_path, ["ablation", "weighting", "keep-encoder"]).report
    names = {row.name for row in report.rows}
    assert {row.basis for row in report.rows} - {None} <= names
    assert {row.reference for row in report.rows} - {None} <= names
    shown = {name for table in report.tables for name in table.rows}
    assert names <= shown


def pictures(out: str) -> int:
    """Of one training at the standard scale."""
    found = config(STANDARD, out)
    assert found["held_out"] == 0.0  # no split that is reported chooses the weights
    return int(found["epochs"] * found["steps_per_epoch"] * found["batch_images"])


def trainings_of(row: str) -> list[str]:
    """On masks, of one row at the standard scale."""
    plan = make_plan("refshapes", STANDARD, OUT, [row])
    (run,) = next(r for r in plan.report.rows if r.name == row).runs
    return [file.relative_to(OUT).as_posix() for file in run.trainings]


def test_rows_that_are_compared_see_as_many_pictures() -> None:
    """With few masks and with all, in one training or in several."""
    budget = pictures("seed0/first-naive-0.01.h5")
    for recipe in ("task-token", "cctf", "pmca", "pmca-alone"):
        assert pictures(f"seed0/first-{recipe}-0.01.h5") == budget
    for name in (
        "first-naive-1",
        "first-pmca-1",
        "first-naive-0.1",
        "first-mdetr-0.01",
        "first-mdetr-1",
        "first-mdetr-published-1",
        "first-siri-1",
    ):
        assert pictures(f"seed0/{name}.h5") == budget
    for row in ("most-steps", "full-all"):
        assert (len(trainings_of(row)), sum(map(pictures, trainings_of(row)))) == (3, budget)
    for row in ("more-steps", "grabcut", "refined", "full-more-all"):
        assert (len(trainings_of(row)), sum(map(pictures, trainings_of(row)))) == (2, budget * 3 / 4), row
    # with a second training, on the masks alone or with pseudo points; the published one is as long as the first
    more = sum(map(pictures, trainings_of("rpp")))
    assert more == budget * 3 / 2
    for row in ("naive-more", "pmca-more", "naive-more-all", "paper-more-all"):
        assert (len(trainings_of(row)), sum(map(pictures, trainings_of(row)))) == (2, more), row
    assert sum(map(pictures, trainings_of("rpp-anew"))) == 2 * budget
    rec = config(STANDARD, "seed0/rec.h5")
    boxes = rec["epochs"] * rec["steps_per_epoch"] * rec["batch_images"]
    assert pictures("seed0/first-multitask-1.h5") == budget + boxes


def test_labels_by_colour_alone_come_from_no_model() -> None:
    made = steps(STANDARD)
    drawn = made["seed0/pseudo-zoom-augmented-ellipse-0.01.h5"]
    assert config_of(drawn.words)["start"] == "ellipse"
    assert set(drawn.inputs) == {"dataset.h5", "seed0/split-0.01.h5"}
    learned = "seed0/round1-zoom-augmented-ellipse-curve-refined-all-0.01.h5"
    assert "seed0/points-zoom-augmented-ellipse-refined-curve-0.01.h5" in made[learned].inputs


def test_pseudo_points_of_the_paper_are_learned_by_the_model_that_drew_them() -> None:
    made = steps(STANDARD)
    assert "seed0/first-pmca-0.01.h5" in made["seed0/round1-pmca-free-plain-all-0.01.h5"].inputs
    assert "seed0/first-pmca-0.01.h5" not in made["seed0/round1-pmca-free-plain-0.01.h5"].inputs, (
        "as published"
    )
    first, found, control = (
        config(STANDARD, f"seed0/{name}-0.01.h5")
        for name in ("first-pmca", "round1-pmca-free-plain-all", "round1-pmca-all")
    )
    assert {key: (first[key], found[key]) for key in found if found[key] != first[key]} == {
        "lr": (0.001, 0.0005), "mask_images": (0, 4), "epochs": (12, 6),
    }  # fmt: skip
    assert found == control, "it differs in the pseudo points alone"


def test_mdetr_is_trained_as_published_and_with_what_is_added() -> None:
    made = steps(STANDARD)
    added, published = (
        preset(config(STANDARD, f"seed0/{name}.h5")["model"]) for name in ("mdetr", "mdetr-published")
    )
    assert (added.detector.sentence_gate, added.auxiliary_mask) == (True, 1)
    assert (published.detector.sentence_gate, published.auxiliary_mask) == (False, 0)
    assert published.detector.queries == 16
    assert "seed0/mdetr-published.h5" in made["seed0/first-mdetr-published-0.01.h5"].inputs


def test_objects_are_learned_by_a_model_whose_backbone_knows_objects() -> None:
    objects = dataclasses.replace(STANDARD, scale="objects")
    for scale in ("objects", "objects-smoke", "objects-tiny"):
        here = dataclasses.replace(objects, scale=scale)
        assert config(here, "seed0/rec.h5")["model"] == "objects-all-small", scale
    assert config(STANDARD, "seed0/rec.h5")["model"] == "refshapes-small"
    named = dataclasses.replace(
        objects, model="refshapes-small", mdetr_model="refshapes-small-mdetr-published"
    )
    assert config(named, "seed0/rec.h5")["model"] == "refshapes-small"
    for file in ("mdetr", "siri1"):
        assert config(named, f"seed0/{file}.h5")["model"] == "refshapes-small-mdetr-published"


def test_attention_is_measured_of_plain_cctf_pmca_and_both() -> None:
    plan = make_plan("refshapes", STANDARD, OUT, ["attention"])
    table = next(t for t in plan.report.tables if t.heading.startswith("Cross-attention"))
    assert table.rows[:4] == ("naive", "cctf", "pmca-alone", "pmca")
    switches = {
        name: [config(STANDARD, f"seed0/first-{name}-0.01.h5")[key] for key in ("cctf", "pmca")]
        for name in table.rows[:4]
    }
    assert list(switches.values()) == [[False, False], [True, False], [False, True], [True, True]]
    target = "seed0/attention/first-pmca-alone-0.01.h5"
    assert target in plan.targets and config(STANDARD, target)["measure"] is True


def test_the_longest_training_that_is_run_is_a_learning_curve() -> None:
    def curves(*rows: str) -> tuple[str, ...]:
        return make_plan("refshapes", STANDARD, OUT, rows).report.learning

    assert curves("naive", "pmca", "rpp") == ("naive", "pmca", "rpp")
    assert curves("naive", "naive-more", "paper-all") == ("naive-more", "paper-all")
    assert len(curves()) == 5, (
        "one line each of naive, decoder and RPP with few masks, naive and decoder with all"
    )


def test_flags_of_the_command_line_win_over_recipes_and_are_no_shell() -> None:
    given = dataclasses.replace(
        STANDARD,
        zoom=96,
        rec_flags="--epochs 7",
        mdetr_flags="--epochs 8",
        res_flags="--train-split 'a; b {c}' --epochs 9",
    )
    assert config(given, "seed0/rec.h5")["epochs"] == 7
    assert config(given, "seed0/siri1.h5")["epochs"] == 8
    first = config(given, "seed0/first-zoom-augmented-1.h5")
    assert (first["epochs"], first["zoom"], first["train_split"]) == (9, 96, "a; b {c}")
    assert config(given, "seed0/first-naive-1.h5")["zoom"] == 0


# ---- the command


@pytest.mark.parametrize("text", ["", "0,", "a", "-1", "1,1", "0 1"])
def test_seeds_are_different_whole_numbers(text: str) -> None:
    assert read_seeds("0, 2,10") == (0, 2, 10)
    with pytest.raises(UsageError, match=re.escape(f"got {text!r}")):
        read_seeds(text)


def test_mistakes_on_the_command_line(seqres: Seqres, tmp_path: Path) -> None:
    done = seqres("reproduce", "refshapes", "--rows", "naiv,full", "--out", tmp_path / "o", "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert "no such row: 'naiv'" in done.err and "did you mean naive?" in done.err
    done = seqres("reproduce", "table1", "figure1", "--dry-run")
    assert done.code == 2 and "one experiment at a time, got also 'figure1'" in done.err
    done = seqres("reproduce", "figure2", "--dry-run")
    assert done.code == 2 and "figure2" in done.err
    done = seqres("reproduce", "table1", "--dataset", tmp_path / "no.h5", "--out", tmp_path / "o")
    assert done.code == 3 and "no.h5" in done.err
    done = seqres("reproduce", "table1", "--rec-flags", "--epoch 3", "--out", tmp_path / "o")
    assert done.code == 2 and "no such option: --epoch" in done.err
    done = seqres("reproduce", "figure1", "--mdetr-model", "mdter", "--out", tmp_path / "o")
    assert done.code == 2 and "got 'mdter'" in done.err
    assert not (tmp_path / "o").exists()


def test_a_dry_run_lists_the_calls(seqres: Seqres, tmp_path: Path) -> None:
    given = (
        "reproduce",
        "table1",
        "--scale",
        "tiny",
        "--seeds",
        "0",
        "--rows",
        "zero",
        "--out",
        tmp_path / "o",
    )
    record = json.loads(seqres(*given, "--dry-run", "--json").out)
    assert record["counts"] == {"would run": 6}
    assert sorted(step["command"][1] for step in record["steps"]) == [
        "evaluate", "evaluate", "prepare-data", "split-masks", "train-rec", "train-res",
    ]  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Arguments of an experiment on a small dataset, whose steps all fail or pretend to run."""
    data = write_dataset(tmp_path / "small.h5", ["train"] * 4 + ["val"] * 2)
    return lambda *more: [
        "reproduce", "refshapes", "--dataset", str(data), "--seeds", "0", "--rows", "naive", "--jobs", "1",
        "--out", str(tmp_path / "o"), "--quiet", *more,
    ]  # fmt: skip


def test_failed_steps_are_named_with_their_log_and_every_split_has_its_report(
    seqres: Seqres,
    small_run: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_stand_in(tmp_path, monkeypatch)
    monkeypatch.setenv("FAILS", "seed0/rec")
    done = seqres(*small_run("--json", "--scale", "tiny", "--split", "val", "--split", "test"))
    assert done.code == 1
    record = json.loads(done.out)
    log = str(tmp_path / "o" / "logs" / "seed0" / "rec.log")
    assert record["failed"] == [{"step": "seed0/rec.h5", "log": log}]
    assert f"see {log}" in done.err
    assert record["counts"] == {"made": 1, "failed": 1, "blocked": 4}
    assert Path(record["report"]).is_file()
    assert [row["missing"] for row in record["rows"]] == [[0], [0]]
    for name in ("refshapes", "refshapes-test"):
        assert (tmp_path / "o" / name / "index.html").is_file()


def test_a_folder_keeps_to_one_scale(
    seqres: Seqres, small_run: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "o").mkdir()
    data = str(tmp_path / "small.h5")
    (tmp_path / "o" / "settings.json").write_text(json.dumps({"scale": "tiny", "dataset": data}))
    done = seqres(*small_run("--scale", "smoke"))
    assert done.code == 2
    assert "scale: tiny -> smoke" in done.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("dataset.h5", "years of work", "holds files and no experiment"),
        ("settings.json", "[1]", "settings.json is not from seqres reproduce"),
        ("settings.json", "{", "settings.json is not from seqres reproduce"),
    ],
)
def test_a_folder_of_somebody_is_left_alone(
    seqres: Seqres, tmp_path: Path, name: str, content: str, words: str
) -> None:
    folder = tmp_path / "my work"
    folder.mkdir()
    (folder / name).write_text(content)
    for more in (), ("--dry-run",):
        done = seqres("reproduce", "figure1", "--scale", "tiny", "--seeds", "0", "--out", folder, *more)
        assert done.code == 2 and words in done.err
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [(name, content)]


def test_only_one_run_works_in_a_folder(
    seqres: Seqres, small_run: Callable[..., list[str]], tmp_path: Path
) -> None:
    import fcntl

    (tmp_path / "o").mkdir()
    with (tmp_path / "o" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = seqres(*small_run("--scale", "tiny"))
    assert done.code == 2
    assert "another seqres reproduce is at work" in done.err
