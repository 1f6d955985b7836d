"""Steps of an experiment as Snakemake runs them: side by side, failures, interruptions, clusters; what a step does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seqres_cli import main as command_line
from seqres_cli.experiments import session, step, workflow
from seqres_cli.experiments.session import Machines
from seqres_cli.experiments.settings import Plan, Settings
from seqres_cli.experiments.table1 import plan
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.stand_in import Calls, install_stand_in

Seqres = Callable[..., Any]
TWO = Machines(jobs=2)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.chdir(tmp_path)
    return install_stand_in(tmp_path, monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Run the steps of a small table on a given dataset; what became of each."""
    write_dataset(tmp_path / "small.h5", ["train"] * 4 + ["val"] * 2)

    def call(machines: Machines = TWO, targets: Sequence[str] = ()) -> dict[str, str]:
        settings = Settings(scale="tiny", seeds=(0,), dataset=tmp_path / "small.h5")
        folder = Path("out")
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(
            json.dumps({"scale": "tiny", "dataset": str(tmp_path / "small.h5")})
        )
        wanted = plan(settings, folder, ["zero"])
        wanted = Plan(tuple(targets) or wanted.targets, wanted.report)
        steps, config = session.steps_of(wanted, settings, folder, machines)
        return dict(workflow.execute(steps, folder, config, machines.arguments(), quiet=True))

    return call


REC, SPLIT, FIRST = "seed0/rec.h5", "seed0/split-1.h5", "seed0/first-naive-1.h5"
SCORES = "seed0/eval/rec.h5", "seed0/eval/first-naive-1.h5"


def outs(calls: Calls) -> list[str]:
    return [str(step.out_of(words).relative_to("out")) for words, _ in calls()]


def test_two_steps_run_side_by_side_on_one_thread_each(
    run: Callable[..., dict[str, str]], calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "meet")  # `rec` and `split` wait for each other
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    assert set(run().values()) == {"made"}
    assert {threads for _, threads in calls()} == {"1"}
    assert sorted(outs(calls)) == sorted([REC, SPLIT, FIRST, *SCORES])
    assert (tmp_path / "out" / "logs" / "seed0" / "rec.log").read_text() == "words of the stage\n"


def test_what_is_right_is_not_run_and_what_is_made_from_something_else_is(
    run: Callable[..., dict[str, str]], calls: Calls, tmp_path: Path
) -> None:
    run()
    count = len(calls())
    assert set(run().values()) == {"cached"}
    assert len(calls()) == count
    (tmp_path / "out" / FIRST).write_text("made by other flags")
    # times say nothing: what is newest is right, and what it stands on stays
    os.utime(tmp_path / "out" / FIRST)
    assert run() == {REC: "cached", SPLIT: "cached", SCORES[0]: "cached", FIRST: "made", SCORES[1]: "made"}


def test_a_failed_step_stops_only_what_depends_on_it_and_leaves_the_old_file(
    run: Callable[..., dict[str, str]], calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out" / SPLIT
    old.parent.mkdir(parents=True)
    old.write_text("of other flags")
    monkeypatch.setenv("FAILS", "seed0/split-1")
    expected = {REC: "made", SCORES[0]: "made", SPLIT: "failed", FIRST: "blocked", SCORES[1]: "blocked"}
    assert run() == expected
    assert old.read_text() == "of other flags"


def test_a_run_that_is_killed_ends_its_steps_and_goes_on(
    run: Callable[..., dict[str, str]], calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILLS", "seed0/first-naive-1")
    monkeypatch.setenv("KILLED", str(os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        run()
    assert (tmp_path / "calls.ended").exists()
    assert not (tmp_path / "out" / FIRST).exists()
    before = set(outs(calls)) - {FIRST}
    assert {REC, SPLIT} <= before
    monkeypatch.delenv("KILLS")
    (tmp_path / "calls").unlink()
    done = run()
    assert (done[REC], done[SPLIT], done[FIRST], done[SCORES[1]]) == ("cached", "cached", "made", "made")
    assert not {REC, SPLIT} & set(outs(calls))


def test_a_cluster_runs_the_steps(run: Callable[..., dict[str, str]], calls: Calls, tmp_path: Path) -> None:
    submit = tmp_path / "submit.sh"
    submit.write_text(
        f'#!/bin/sh\necho "$1" >> {tmp_path}/submitted\nnohup sh "$1" >/dev/null 2>&1 &\necho $!\n'
    )
    submit.chmod(0o755)
    more = ("--cluster-generic-submit-cmd", str(submit), "--seconds-between-status-checks", "1")
    machines = Machines(jobs=2, executor="cluster-generic", more=more)
    assert run(machines, [SPLIT, REC]) == {SPLIT: "made", REC: "made"}
    assert len((tmp_path / "submitted").read_text().splitlines()) == 2


def test_how_many_steps_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert Machines(jobs=3).arguments() == ["--cores", "3"]
    assert Machines().arguments() == ["--cores", str(cores)]
    alone = Machines(jobs=1)  # a step that is alone takes all cores
    assert (alone.arguments(), alone.threads()) == (["--cores", str(cores)], cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (alone.arguments(), alone.threads()) == (["--cores", "1"], 1)
    monkeypatch.setenv("OMP_NUM_THREADS", str(2 * cores))
    assert alone.threads() == cores and Machines(jobs=3).threads() == 1
    assert Machines(7, "slurm", more=("-x",)).arguments() == ["--jobs", "7", "--executor", "slurm", "-x"]
    assert Machines(7, profile="p").arguments()[-4:] == ["--profile", "p", "--jobs", "7"]


# ---- one step


@pytest.fixture
def stage_calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What reaches the command line; --resume is refused as of other settings."""
    given: list[list[str]] = []

    def main(words: list[str]) -> int:
        given.append(words)
        return 3 if "--resume" in words else 0

    monkeypatch.setattr(command_line, "main", main)
    monkeypatch.setattr(step, "look", lambda words: "stale" if step.out_of(words).exists() else "absent")
    return given


def test_a_step_replaces_and_goes_on(tmp_path: Path, stage_calls: list[list[str]]) -> None:
    words = ["train-rec", "--seed", "0", "--out", str(tmp_path / "rec.h5")]
    assert step.run(words) == 0
    assert stage_calls == [words]
    (tmp_path / "rec.h5").touch()
    (tmp_path / ".rec.h5.resume").touch()
    assert step.run(words) == 0
    assert stage_calls[1:] == [[*words, "--force", "--resume"], [*words, "--force"]]


def test_files_of_separate_calls_are_taken_as_they_are(
    tmp_path: Path, seqres: Seqres, monkeypatch: pytest.MonkeyPatch, run: Callable[..., dict[str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "out" / SPLIT
    made.parent.mkdir(parents=True)
    by_hand = ["split-masks", "--dataset", tmp_path / "small.h5", "--seed", "0", "--out", made, "--ratio"]
    assert seqres(*by_hand, "1.0").code == 0
    number = made.stat().st_ino
    os.utime(made, (1, 1))  # older than the dataset
    assert run(targets=[SPLIT]) == {SPLIT: "cached"}
    assert made.stat().st_ino == number
    assert seqres(*by_hand, "0.5", "--force").code == 0
    assert run(targets=[SPLIT]) == {SPLIT: "made"}
    assert seqres(*by_hand, "1.0", "--dry-run").code == 0


def test_a_step_that_is_asked_leaves_a_file_that_is_right(tmp_path: Path, seqres: Seqres) -> None:
    write_dataset(tmp_path / "small.h5", ["train"] * 4 + ["val"] * 2)
    words = [
        "split-masks",
        "--dataset",
        str(tmp_path / "small.h5"),
        "--out",
        str(tmp_path / "split.h5"),
        "--ratio",
        "1",
    ]
    assert step.look(words) == "absent"
    assert step.run(words) == 0
    number = (tmp_path / "split.h5").stat().st_ino
    assert (step.look(words), step.look([*words, "--ratio", "0.5"])) == ("current", "stale")
    assert step.run(words) == 0
    assert (tmp_path / "split.h5").stat().st_ino == number
    assert step.run([*words, "--ratio", "0.5"]) == 0
    assert (tmp_path / "split.h5").stat().st_ino != number


def test_without_snakemake_the_line_to_type_is_told(seqres: Seqres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snakemake", None)
    done = seqres("reproduce", "table1", "--dry-run")
    assert done.code == 2
    assert "hint: pip install 'seqres[reproduce]'" in done.err
