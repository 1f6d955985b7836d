"""`seqres reproduce`: the graph of calls, how it is run, and what the command says."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.commands.reproduce import make_plan, read_seeds
from seqres_cli.experiments import recipes, session
from seqres_cli.experiments.build import Settings
from seqres_cli.experiments.calls import Processes
from seqres_cli.experiments.graph import Graph, Node
from seqres_cli.experiments.runner import Found, Worker, execute, preview
from seqres_cli.main import main
from stages.errors import UsageError
from tests.oracles.small_artifacts import write_dataset

Seqres = Callable[..., Any]
NAMES = ("refshapes", "table1", "figure1")
SCALES = tuple(recipes.LENGTHS)


def graph_of(*nodes: tuple[str, str, float]) -> Graph:
    """(name, names of its inputs, seconds)."""
    graph = Graph()
    for name, inputs, seconds in nodes:
        graph.add(Node(name, "toy", (), tuple((f"in{i}", n) for i, n in enumerate(inputs.split())), seconds))
    return graph


class Fake:
    """A worker that writes down what it was asked to do."""

    def __init__(self, found: dict[str, Found] | None = None, fails: str = "") -> None:
        self.found, self.fails = found or {}, fails.split()
        self.ran: list[str] = []
        self.replaced: list[str] = []
        self.stopped = False

    def run(self, node: Node, replace: bool) -> bool:
        self.ran.append(node.out)
        self.replaced += [node.out] if replace else []
        return node.out not in self.fails

    def stop(self) -> None:
        self.stopped = True

    def look(self, node: Node) -> Found:
        return self.found.get(node.out, "absent")

    def worker(self) -> Worker:
        return Worker(self.look, self.run, self.stop, lambda node: Path(f"{node.out}.log"))


def run(graph: Graph, fake: Fake, jobs: int = 1) -> dict[str, str]:
    told: list[str] = []
    outcomes = execute(graph, fake.worker(), jobs=jobs, tell=told.append)
    return {name: outcome.status for name, outcome in outcomes.items()}


DIAMOND = (("a", "", 1.0), ("b", "a", 1.0), ("c", "a", 5.0), ("d", "b c", 1.0), ("alone", "", 2.0))


def test_a_node_is_stored_once() -> None:
    graph = graph_of(*DIAMOND)
    graph.add(Node("b", "toy", (), (("in0", "a"),), 1.0))
    assert len(graph) == 5
    with pytest.raises(ValueError, match="two different calls write b"):
        graph.add(Node("b", "toy", ("--other",), (("in0", "a"),), 1.0))
    with pytest.raises(ValueError, match="needs nothing, which nothing makes"):
        graph.add(Node("e", "toy", (), (("in0", "nothing"),)))


def test_given_files_stay_what_they_are_and_made_ones_go_to_the_folder() -> None:
    node = Node("s/x.h5", "toy", ("--flag",), (("dataset", "/data/d.h5"), ("rec", "s/rec.h5")))
    assert node.arguments(Path("out")) == [
        "toy", "--dataset", "/data/d.h5", "--rec", "out/s/rec.h5", "--flag", "--out", "out/s/x.h5",
    ]  # fmt: skip


def test_what_the_most_work_waits_for_runs_first() -> None:
    fake = Fake()
    assert graph_of(*DIAMOND).longest_ways() == {"d": 1, "c": 6, "b": 2, "a": 7, "alone": 2}
    assert set(run(graph_of(*DIAMOND), fake).values()) == {"made"}
    assert fake.ran[:2] == ["a", "c"]
    assert fake.ran.index("d") > fake.ran.index("b")


def test_what_is_there_is_not_run_and_what_is_outdated_is_replaced() -> None:
    fake = Fake({"a": "current", "b": "stale"})
    assert run(graph_of(*DIAMOND), fake) == {
        "a": "cached",
        "b": "made",
        "c": "made",
        "d": "made",
        "alone": "made",
    }
    assert fake.replaced == ["b"]
    assert "a" not in fake.ran


def test_a_failure_stops_only_what_stands_on_it() -> None:
    fake = Fake(fails="b")
    told: list[str] = []
    outcomes = execute(graph_of(*DIAMOND), fake.worker(), jobs=2, tell=told.append)
    assert {n: o.status for n, o in outcomes.items()} == {
        "a": "made", "b": "failed", "c": "made", "d": "blocked", "alone": "made",
    }  # fmt: skip
    assert "d" not in fake.ran
    assert any(line.endswith("failed b, see b.log") for line in told)


def test_several_jobs_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    class Meeting(Fake):
        def run(self, node: Node, replace: bool) -> bool:
            both.wait()  # only comes back when two are here
            return True

    assert run(graph_of(("a", "", 1), ("b", "", 1)), Meeting(), jobs=2) == {"a": "made", "b": "made"}


def test_an_interruption_ends_what_runs() -> None:
    class Interrupted(Fake):
        ended = threading.Event()

        def look(self, node: Node) -> Found:
            if node.out == "b":
                raise KeyboardInterrupt
            return "absent"

        def run(self, node: Node, replace: bool) -> bool:
            assert self.ended.wait(20)
            return False

        def stop(self) -> None:
            self.stopped = True
            self.ended.set()

    fake = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(graph_of(("a", "", 2), ("b", "", 1)), fake, jobs=2)
    assert fake.stopped


def test_a_preview_runs_nothing() -> None:
    fake = Fake({"a": "current", "b": "stale", "alone": "current"})
    outcomes = preview(graph_of(*DIAMOND), fake.look, lambda node: node.out == "d")
    assert {n: o.status for n, o in outcomes.items()} == {
        "a": "cached", "b": "would run", "c": "would run", "d": "may run", "alone": "cached",
    }  # fmt: skip
    assert fake.ran == []


# ---- processes

STAND_IN = """
import json, os, sys
from pathlib import Path
Path(os.environ["CALLS"]).open("a").write(json.dumps([sys.argv[1:], os.environ.get("OMP_NUM_THREADS")]) + "\\n")
print("words of the stage")
sys.exit(3 if "--resume" in sys.argv else int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """A seqres that only tells how it was called; returns the calls so far."""
    script, log = tmp_path / "stand_in.py", tmp_path / "calls"
    script.write_text(STAND_IN)
    monkeypatch.setenv("CALLS", str(log))
    monkeypatch.setattr(Processes, "launcher", (sys.executable, str(script)))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def processes(folder: Path, jobs: int) -> Processes:
    return Processes(folder, jobs, Processes.launcher)


def test_a_step_is_a_process_with_a_log(tmp_path: Path, calls: Callable[[], list[Any]]) -> None:
    work = processes(tmp_path, 2)
    node = Node("seed0/rec.h5", "train-rec", ("--seed", "0"))
    assert work.run(node, False)
    assert calls() == [[["train-rec", "--seed", "0", "--out", f"{tmp_path}/seed0/rec.h5"], "1"]]
    log = (tmp_path / "logs" / "seed0" / "rec.log").read_text()
    assert log == f"$ seqres train-rec --seed 0 --out {tmp_path}/seed0/rec.h5\nwords of the stage\n"


def test_an_interrupted_training_goes_on_unless_its_state_is_of_other_settings(
    tmp_path: Path, calls: Callable[[], list[Any]]
) -> None:
    node = Node("rec.h5", "train-rec")
    (tmp_path / ".rec.h5.resume").touch()
    assert processes(tmp_path, 1).run(node, True)
    given = [words for words, _ in calls()]
    assert [words[-2:] for words in given] == [["--force", "--resume"], [f"{tmp_path}/rec.h5", "--force"]]


def test_a_step_that_fails_is_told(
    tmp_path: Path, calls: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODE", "1")
    assert not processes(tmp_path, 1).run(Node("rec.h5", "train-rec"), False)


def test_a_file_is_current_stale_or_absent(tmp_path: Path, seqres: Seqres) -> None:
    write_dataset(tmp_path / "dataset.h5", ["train"] * 10 + ["val"])
    work = processes(tmp_path, 1)

    def split(ratio: str) -> Node:
        return Node("split.h5", "split-masks", ("--ratio", ratio), (("dataset", "dataset.h5"),))

    assert work.look(split("0.5")) == "absent"
    assert seqres(*split("0.5").arguments(tmp_path)).code == 0
    assert work.look(split("0.5")) == "current"
    assert work.look(split("0.2")) == "stale"


# ---- the experiments


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
    calls: Callable[[], list[Any]],
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


def test_a_folder_keeps_to_one_scale(
    seqres: Seqres, small_run: Callable[..., list[str]], calls: Callable[[], list[Any]]
) -> None:
    assert seqres(*small_run("--scale", "tiny")).code == 0
    done = seqres(*small_run("--scale", "smoke"))
    assert done.code == 2
    assert "scale: tiny -> smoke" in done.err


def test_only_one_run_works_in_a_folder(
    seqres: Seqres, small_run: Callable[..., list[str]], calls: Callable[[], list[Any]], tmp_path: Path
) -> None:
    import fcntl

    (tmp_path / "o").mkdir()
    with (tmp_path / "o" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = seqres(*small_run("--scale", "tiny"))
    assert done.code == 2
    assert "another seqres reproduce is at work" in done.err
