"""The graph of scripts/pipeline.mk, with a `seqres` that only writes down how it was called."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from seqres_cli.main import main

STAND_IN = """#!/bin/sh
# Copies the names of its inputs into --out; a dry run is "up to date" (0) unless they changed (3).
call="$*"; dry=; out=; force=; inputs=
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift ;;
    --dry-run) dry=1 ;;
    --force) force=1 ;;
    *) inputs="$inputs $1" ;;
  esac
  shift
done
if [ -n "$dry" ]; then echo "$inputs" | cmp -s - "$out" && exit 0 || exit 3; fi
echo "$call" >> "$SEQRES_LOG"
if [ -n "$out" ]; then
  if [ -e "$out" ] && [ -z "$force" ] && ! echo "$inputs" | cmp -s - "$out"; then exit 3; fi
  echo "$inputs" > "$out"
fi
"""

Build = Callable[..., list[str]]


@pytest.fixture
def build(tmp_path: Path, project_root: Path) -> Build:
    """Call make; returns the files that seqres was asked to make, in order."""
    stand_in = tmp_path / "seqres"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    log = tmp_path / "log"
    # make compares times: everything made so far shall be clearly older than what a later call makes
    clock = [1_000_000_000]

    def call(*variables: str, goal: str = "all") -> list[str]:
        log.write_text("")
        command = [
            "make",
            "-f",
            "scripts/pipeline.mk",
            "-j2",
            f"SEQRES={stand_in}",
            f"OUT={tmp_path / 'out'}",
            "BOOK=",
            *variables,
            goal,
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        done = subprocess.run(
            command,
            cwd=project_root,
            env={**environment, "SEQRES_LOG": str(log)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        made: list[str] = []
        for line in log.read_text().splitlines():
            words = line.split()
            if "--out" in words:
                out = Path(words[words.index("--out") + 1]).relative_to(tmp_path / "out")
                made.append(str(out))
        age(tmp_path / "out", clock)
        return made

    return call


def age(folder: Path, clock: list[int]) -> None:
    """Give all files old times that keep their order; files of one tick of the file system stay equally old."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    times = {p: p.stat().st_mtime_ns for p in files}
    rank = {time: i for i, time in enumerate(sorted(set(times.values())))}
    for path, time in times.items():
        os.utime(path, (clock[0] + rank[time],) * 2)
    clock[0] += len(rank)


OF_RATIO = [
    f"{n}.h5"
    for n in (
        "split-{r}",
        "naive-{r}",
        "eval/naive-{r}",
        "first-{r}",
        "paper-first-{r}",
        "paper-pseudo-{r}",
        "paper-points-{r}",
        "paper-{r}",
        "eval/paper-{r}",
        "pseudo-{r}",
        "refined-{r}",
        "points-{r}",
        "final-{r}",
        "eval/final-{r}",
        "attention-{r}",
    )
]


def of_ratio(ratio: str) -> set[str]:
    return {name.format(r=ratio) for name in OF_RATIO}


def test_everything_is_made_once_and_a_second_call_does_nothing(build: Build) -> None:
    shared = {
        "dataset.h5",
        "rec.h5",
        "eval/boxes-only.h5",
        "split-1.0.h5",
        "all-masks.h5",
        "eval/all-masks.h5",
    }
    made = build()
    assert len(made) == len(set(made))
    assert set(made) == shared | of_ratio("0.05")
    assert build() == []


def test_another_ratio_makes_only_what_depends_on_it(build: Build) -> None:
    build()
    assert set(build("RATIO=0.1")) == of_ratio("0.1")
    assert build("RATIO=0.05") == []


def test_a_second_round_labels_with_the_model_of_the_first(build: Build, tmp_path: Path) -> None:
    again = ("SCALE=tiny", "TAG=2", "TEACHER=final")
    build("SCALE=tiny")
    stages = ("pseudo2", "refined2", "points2", "final2", "eval/final2", "attention2")
    assert set(build(*again)) == {f"{stage}-0.3.h5" for stage in stages}
    assert build(*again) == []
    assert build("SCALE=tiny") == []

    def inputs(name: str) -> str:
        return (tmp_path / "out" / name).read_text().replace(str(tmp_path / "out") + "/", "")

    assert "--model final-0.3.h5" in inputs("pseudo2-0.3.h5")
    assert "--pseudo pseudo2-0.3.h5" in inputs("refined2-0.3.h5")
    assert "--pseudo refined2-0.3.h5" in inputs("points2-0.3.h5")
    assert "--rec rec.h5 --points points2-0.3.h5 --config" in inputs("final2-0.3.h5")
    shown = inputs("attention2-0.3.h5")
    assert "--model final2-0.3.h5" in shown
    assert "--pseudo refined2-0.3.h5 --points points2-0.3.h5" in shown


def test_what_a_round_takes_over_from_the_model_that_labelled(build: Build, tmp_path: Path) -> None:
    final = tmp_path / "out" / "final-0.3.h5"
    build("SCALE=tiny", "KEEP=encoder")
    assert f"--init {tmp_path}/out/first-0.3.h5" in final.read_text()
    assert "--init-keep encoder" in final.read_text()
    assert build("SCALE=tiny", "KEEP=encoder") == []
    assert set(build("SCALE=tiny", "KEEP=all")) == {"final-0.3.h5", "paper-0.3.h5"}
    assert f"--init {tmp_path}/out/paper-first-0.3.h5" in final.with_name("paper-0.3.h5").read_text()
    assert set(build("SCALE=tiny", "KEEP=none")) == {"final-0.3.h5", "paper-0.3.h5"}
    assert "--init" not in final.read_text()


def test_what_suits_the_generated_pictures_is_not_forced_on_others(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build("SCALE=standard")
    assert "--config pipeline-standard:all-masks" in (out / "all-masks.h5").read_text()
    assert "--lr" not in (out / "rec.h5").read_text() + (out / "all-masks.h5").read_text()
    assert "--rotate" not in (out / "all-masks.h5").read_text()
    build("SCALE=standard", "MODEL=swin-minilm", f"DATA={out / 'dataset.h5'}")
    assert "--lr 0.001" in (out / "rec.h5").read_text()
    assert "--lr 0.001 --rotate 0" in (out / "all-masks.h5").read_text()
    build("SCALE=smoke")
    assert "--model objects-small" in (out / "rec.h5").read_text()
    assert "--lr" not in (out / "rec.h5").read_text() + (out / "all-masks.h5").read_text()


def test_every_call_is_one_that_the_stages_take(build: Build, tmp_path: Path) -> None:
    for scale in ("tiny", "smoke", "standard"):
        build(f"SCALE={scale}", "RATIO=0.2")
        for file in (tmp_path / "out").rglob("*-0.2.h5"):
            words = file.read_text().replace("--out", "").split()
            assert main([*words, "--print-config"]) == 0, words


def test_a_changed_recipe_is_asked_about(build: Build, tmp_path: Path) -> None:
    book = tmp_path / "pipeline-smoke.toml"
    book.write_text("")
    os.utime(book, (1, 1))
    build(f"BOOK={book}")
    os.utime(book)
    stand_in = tmp_path / "seqres"
    stand_in.write_text(STAND_IN.replace("exit 0 || exit 3", "exit 3"))  # no file is right any more
    assert "rec.h5" in build(f"BOOK={book}")


@pytest.mark.parametrize(
    "name",
    ["dataset.h5", "rec.h5", "split-0.05.h5", "pseudo-0.05.h5", "refined-0.05.h5", "eval/all-masks.h5"],
)
def test_a_deleted_file_is_made_again_and_what_follows_is_only_asked(
    build: Build, tmp_path: Path, name: str
) -> None:
    build()
    (tmp_path / "out" / name).unlink()
    assert build() == [f"{name}"]
    assert build() == []


def test_new_flags_run_their_stage_again_and_replace_its_file(build: Build) -> None:
    build()
    # the stand-in's inputs are only names, so nothing after the changed file is different
    assert sorted(build("RESAMPLE_FLAGS=--fit none --score-threshold 0.2")) == [
        "paper-points-0.05.h5",
        "points-0.05.h5",
    ]
    assert build("RESAMPLE_FLAGS=--fit none --score-threshold 0.2") == []


def test_the_seed_goes_to_everything_that_draws(build: Build) -> None:
    build()
    assert set(build("SEED=1")) == {
        "dataset.h5", "rec.h5", "split-0.05.h5", "split-1.0.h5", "naive-0.05.h5", "paper-first-0.05.h5", "paper-0.05.h5",
        "first-0.05.h5", "final-0.05.h5", "all-masks.h5",
    }  # fmt: skip


def test_an_existing_dataset_takes_the_place_of_the_generated_one(build: Build, tmp_path: Path) -> None:
    data = tmp_path / "refcoco.h5"
    data.write_text("")
    os.utime(data, (1, 1))
    made = build(f"DATA={data}", "RATIO=0.01")
    assert "dataset.h5" not in made
    assert {"rec.h5", "attention-0.01.h5"} <= set(made)
    assert build(f"DATA={data}", "RATIO=0.01") == []


def test_a_failing_stage_stops_the_build_and_keeps_the_old_file(build: Build, tmp_path: Path) -> None:
    build()
    old = (tmp_path / "out" / "rec.h5").read_text()
    stand_in = tmp_path / "seqres"
    stand_in.write_text(
        STAND_IN.replace('echo "$call"', 'case $call in train-rec*) exit 1 ;; esac\necho "$call"')
    )
    with pytest.raises(AssertionError, match=r"rec\.h5\] Error 1"):
        build("REC_FLAGS=--epochs 1")
    assert (tmp_path / "out" / "rec.h5").read_text() == old


MEETING = """
case "$*" in
  *--dry-run*) ;;
  *:naive*--out*) echo naive waits; read -r line < "$SEQRES_LOG.meet"; echo "naive heard $line" ;;
  *:first*--out*) echo first comes >&2; echo first > "$SEQRES_LOG.meet" ;;
esac
"""


def test_branches_run_side_by_side_and_every_line_says_whose_it_is(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Opening a pipe waits for the other end, so neither model is made without the other."""
    os.mkfifo(tmp_path / "log.meet")
    stand_in = tmp_path / "seqres"
    stand_in.write_text(STAND_IN.replace('call="$*"', MEETING + 'call="$*"', 1))
    assert {"naive-0.05.h5", "first-0.05.h5"} <= set(build())
    lines = capfd.readouterr().out.splitlines()
    assert "naive-0.05:      naive waits" in lines and "naive-0.05:      naive heard first" in lines
    assert "first-0.05:      first comes" in lines
    assert f"first-0.05:      seqres train-res --dataset {tmp_path}/out/dataset.h5" in "\n".join(lines)


def test_what_all_others_wait_for_has_all_cores(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stand_in = tmp_path / "seqres"
    stand_in.write_text(STAND_IN.replace('call="$*"', 'echo "threads $OMP_NUM_THREADS"; call="$*"', 1))
    build("CORES=6")
    threads = dict(line.split(": ") for line in capfd.readouterr().out.splitlines() if "threads" in line)
    assert len(threads) == 21
    of_all = {name for name, words in threads.items() if words.split() == ["threads", "6"]}
    assert of_all == {"dataset", "rec"}
    assert {words.split()[1] for words in threads.values()} == {"1", "6"}


INTERRUPTED = """#!/bin/sh
case "$*" in *--dry-run*) exit 3 ;; esac
trap 'echo saved >&2; exit 130' INT
echo started
while :; do sleep 0.1; done
"""


def test_a_stage_that_is_interrupted_still_says_so(tmp_path: Path, project_root: Path) -> None:
    stand_in = tmp_path / "seqres"
    stand_in.write_text(INTERRUPTED)
    stand_in.chmod(0o755)
    command = ["make", "-f", "scripts/pipeline.mk", f"SEQRES={stand_in}", f"OUT={tmp_path / 'out'}", "all"]
    # pytest itself may run in the background, where Ctrl-C is ignored, and what it starts would inherit that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, cwd=project_root, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as make:  # fmt: skip
        try:
            assert make.stdout
            while not make.stdout.readline().endswith("started\n"):
                assert make.poll() is None
            os.killpg(make.pid, signal.SIGINT)  # as the terminal does
            assert "dataset:         saved\n" in make.communicate(timeout=60)[0]
        finally:
            signal.signal(signal.SIGINT, before)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGKILL)
    assert make.returncode != 0


def test_quotes_in_the_flags_reach_the_shell(build: Build, tmp_path: Path) -> None:
    build("""EVALUATE_FLAGS=--splits "val" --note 'a b'""")
    assert (tmp_path / "out" / ".flags" / "evaluate").read_text() == (
        """--config pipeline-smoke --splits "val" --note 'a b'\n"""
    )
    assert "--splits val --note a b" in (tmp_path / "out" / "eval" / "all-masks.h5").read_text()
