"""Graphs of calls and how they are run: order, sharing, failures, interruptions, processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.experiments.graph import Graph, Node
from seqres_cli.experiments.runner import Found, Worker, execute, preview
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.stand_in import Calls, install_stand_in, processes

Seqres = Callable[..., Any]


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


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return install_stand_in(tmp_path, monkeypatch)


def test_a_step_is_a_process_with_a_log(tmp_path: Path, calls: Calls) -> None:
    work = processes(tmp_path, 2)
    node = Node("seed0/rec.h5", "train-rec", ("--seed", "0"))
    assert work.run(node, False)
    assert calls() == [[["train-rec", "--seed", "0", "--out", f"{tmp_path}/seed0/rec.h5"], "1"]]
    log = (tmp_path / "logs" / "seed0" / "rec.log").read_text()
    assert log == f"$ seqres train-rec --seed 0 --out {tmp_path}/seed0/rec.h5\nwords of the stage\n"


def test_an_interrupted_training_goes_on_unless_its_state_is_of_other_settings(
    tmp_path: Path, calls: Calls
) -> None:
    node = Node("rec.h5", "train-rec")
    (tmp_path / ".rec.h5.resume").touch()
    assert processes(tmp_path, 1).run(node, True)
    given = [words for words, _ in calls()]
    assert [words[-2:] for words in given] == [["--force", "--resume"], [f"{tmp_path}/rec.h5", "--force"]]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts pytest in the background has SIGINT ignored, and steps would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_running_step_is_ended(tmp_path: Path, calls: Calls, interruptible: None) -> None:
    work = processes(tmp_path, 1)
    results: list[bool] = []
    thread = threading.Thread(
        target=lambda: results.append(work.run(Node("a.h5", "toy", ("--slow",)), False))
    )
    thread.start()
    log = tmp_path / "calls"
    while not (log.exists() and log.read_text().endswith("\n")):  # a file that is there may still be empty
        threading.Event().wait(0.02)
    work.worker().stop()
    thread.join(30)
    assert results == [False]
    assert not work.run(Node("b.h5", "toy"), False)  # nothing starts any more
    assert len(calls()) == 1


def test_a_step_that_fails_is_told(tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
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
