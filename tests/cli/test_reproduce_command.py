"""`seqres reproduce`: the experiments as graphs, and what the command says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.commands.reproduce import make_plan, read_seeds
from seqres_cli.experiments import recipes, session
from seqres_cli.experiments.build import Settings
from seqres_cli.experiments.graph import Graph
from seqres_cli.main import main
from stages.errors import UsageError
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.stand_in import Calls, install_stand_in, processes

Seqres = Callable[..., Any]
NAMES = ("refshapes", "table1", "figure1")
SCALES = tuple(recipes.LENGTHS)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return install_stand_in(tmp_path, monkeypatch)


@pytest.mark.parametrize("scale", SCALES)
def test_every_step_is_a_call_that_the_stages_take(
    scale: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = set()
    for name in NAMES:
        for node in make_plan(name, Settings(scale=scale, seeds=(0,)), tmp_path, []).graph:
            stage, *arguments = node.arguments(tmp_path)
            flags = (stage, node.options)
            if flags not in seen:
                seen.add(flags)
                assert main([stage, *arguments, "--print-config"]) == 0, (arguments, capsys.readouterr().err)


def test_experiments_share_what_they_have_in_common(tmp_path: Path) -> None:
    both = Graph()
    for name in NAMES:
        for node in make_plan(name, Settings(scale="standard"), tmp_path, []).graph:
            both.add(node)  # raises where two experiments mean different things by one file
    stages_of = [node.stage for node in both]
    assert stages_of.count("prepare-data") == 1
    assert stages_of.count("train-rec") == 3 * 4  # SeqTR, MDETR, SiRi and its control
    # the second looks with and without fitting label once
    fits = [n for n in both if n.stage == "resample-points" and "box" in n.options]
    assert all(both.nodes[n.inputs[1][1]].stage == "pseudo-label" for n in fits)


def test_refined_labels_are_learned_from_and_measured(tmp_path: Path) -> None:
    plan = make_plan("refshapes", Settings(scale="tiny", seeds=(0,)), tmp_path, ["curved", "refined"])
    drawn, redrawn = (row.runs[0] for row in plan.report.rows if row.name in ("curved", "refined"))
    ((pseudo, points),) = [
        [file.relative_to(tmp_path).as_posix() for file in pair] for pair in redrawn.labels
    ]
    nodes = plan.graph.nodes
    assert nodes[pseudo].stage == "refine-masks"
    assert dict(nodes[points].inputs)["pseudo"] == pseudo
    assert tmp_path / dict(nodes[pseudo].inputs)["pseudo"] == drawn.labels[0][0], (
        "the same labels, once drawn"
    )
    model = nodes[redrawn.model.relative_to(tmp_path).as_posix()]
    assert dict(model.inputs)["points"] == points and redrawn.model != drawn.model


def test_seeds_change_splits_and_trainings_but_not_the_data(tmp_path: Path) -> None:
    graph = make_plan("refshapes", Settings(scale="tiny", seeds=(3, 4)), tmp_path, ["naive"]).graph
    seeds = {n.out: n.options[n.options.index("--seed") + 1] for n in graph if "--seed" in n.options}
    assert seeds["dataset.h5"] == "0"
    assert {s for out, s in seeds.items() if out.startswith("seed3/")} == {"3"}
    assert {s for out, s in seeds.items() if out.startswith("seed4/")} == {"4"}


def test_an_existing_dataset_takes_the_place_of_the_generated_one(tmp_path: Path) -> None:
    data = tmp_path / "refcoco.h5"
    graph = make_plan("figure1", Settings(dataset=data, seeds=(0,)), tmp_path, ["seqtr"]).graph
    assert "dataset.h5" not in graph.nodes
    assert all(("dataset", str(data)) in node.inputs for node in graph)


def test_every_part_builds_on_a_row_that_is_there(tmp_path: Path) -> None:
    report = make_plan("refshapes", Settings(), tmp_path, ["ablation", "weighting", "keep-encoder"]).report
    names = {row.name for row in report.rows}
    assert {row.basis for row in report.rows} - {None} <= names
    assert {row.reference for row in report.rows} - {None} <= names
    shown = {name for table in report.tables for name in table.rows}
    assert names <= shown


def test_what_is_trained_agrees_with_the_pipeline_file(project_root: Path) -> None:
    text = (project_root / "scripts" / "pipeline.mk").read_text("utf-8")

    def words(name: str) -> list[str]:
        found = re.search(rf"^{name}\s*\?=(.*)$", text, re.M)
        assert found is not None
        return shape(found[1])

    def shape(flags: str) -> list[str]:
        """Without the learning rate, which may follow the length of a training."""
        return re.sub(r"--lr [\d.]+|\$\(\S*\)*", "", flags).split()

    assert words("NAIVE_FLAGS") == shape(recipes.VARIANTS["naive"])
    assert words("METHOD_FLAGS") == shape(recipes.VARIANTS["zoom"].format(zoom=112))


def test_lengths_follow_the_share_of_masks(tmp_path: Path) -> None:
    graph = make_plan("figure1", Settings(scale="standard", seeds=(0,)), tmp_path, []).graph

    def epochs(ratio: str) -> int:
        options = graph.nodes[f"seed0/first-naive-{ratio}.h5"].options
        return int(options[options.index("--epochs") + 1])

    lengths = recipes.LENGTHS["standard"]["masks"]
    assert isinstance(lengths, dict)
    assert epochs("0.01") == lengths[0.0][0]
    assert epochs("1") == lengths[max(lengths)][0]


def test_each_role_has_its_learning_rate(tmp_path: Path) -> None:
    def rates(experiment: str, stage: str) -> dict[str, float]:
        nodes = make_plan(experiment, Settings(scale="standard", seeds=(0,)), tmp_path, []).graph
        found = {}
        for node in nodes:
            if node.stage == stage:
                assert node.options.count("--lr") == 1, node.out
                found[node.out] = float(node.options[node.options.index("--lr") + 1])
        return found

    masks = rates("figure1", "train-res")
    assert masks["seed0/first-mdetr-0.01.h5"] == recipes.RATES["mdetr-masks"]
    assert masks["seed0/first-naive-1.h5"] == recipes.RATES["masks"]
    assert rates("refshapes", "train-res")["seed0/first-zoom-augmented-1.h5"] == recipes.RATE
    boxes = rates("figure1", "train-rec")
    assert boxes["seed0/siri1.h5"] == boxes["seed0/mdetr.h5"] != boxes["seed0/rec.h5"]


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
    assert [step["command"][1] for step in record["steps"]] == [
        "prepare-data", "train-rec", "evaluate", "split-masks", "train-res", "evaluate",
    ]  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Arguments of an experiment on a small dataset, whose steps the stand-in pretends to run."""
    data = write_dataset(tmp_path / "small.h5", ["train"] * 4 + ["val"] * 2)
    monkeypatch.setattr(session, "Processes", processes)
    return lambda *more: [
        "reproduce", "refshapes", "--dataset", str(data), "--seeds", "0", "--rows", "naive", "--jobs", "1",
        "--out", str(tmp_path / "o"), *more,
    ]  # fmt: skip


def test_failed_steps_are_named_with_their_log(
    seqres: Seqres,
    small_run: Callable[..., list[str]],
    calls: Calls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CODE", "1")
    done = seqres(*small_run("--json", "--scale", "tiny"))
    assert done.code == 1
    record = json.loads(done.out)
    log = str(tmp_path / "o" / "logs" / "seed0" / "rec.log")
    assert {"step": "seed0/rec.h5", "log": log} in record["failed"]
    assert f"see {log}" in done.err
    assert record["counts"]["blocked"] >= 2
    assert Path(record["report"]).is_file()
    assert [row["missing"] for row in record["rows"]] == [[0], [0]]


def test_every_split_has_its_report(
    seqres: Seqres, small_run: Callable[..., list[str]], calls: Calls, tmp_path: Path
) -> None:
    assert seqres(*small_run("--scale", "tiny", "--split", "val", "--split", "test")).code == 0
    for name in ("refshapes", "refshapes-test"):
        assert (tmp_path / "o" / name / "index.html").is_file()
    assert any(
        words[words.index("--splits") :][:4] == ["--splits", "val", "--splits", "test"]
        for words, _ in calls()
        if "--splits" in words
    )


def test_a_folder_keeps_to_one_scale(
    seqres: Seqres, small_run: Callable[..., list[str]], calls: Calls
) -> None:
    assert seqres(*small_run("--scale", "tiny")).code == 0
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
    seqres: Seqres, tmp_path: Path, calls: Calls, name: str, content: str, words: str
) -> None:
    folder = tmp_path / "my work"
    folder.mkdir()
    (folder / name).write_text(content)
    for more in (), ("--dry-run",):
        done = seqres("reproduce", "figure1", "--scale", "tiny", "--seeds", "0", "--out", folder, *more)
        assert done.code == 2 and words in done.err
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [(name, content)]


def test_only_one_run_works_in_a_folder(
    seqres: Seqres, small_run: Callable[..., list[str]], calls: Calls, tmp_path: Path
) -> None:
    import fcntl

    (tmp_path / "o").mkdir()
    with (tmp_path / "o" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = seqres(*small_run("--scale", "tiny"))
    assert done.code == 2
    assert "another seqres reproduce is at work" in done.err
