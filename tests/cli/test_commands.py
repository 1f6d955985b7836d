"""All commands: help, examples, laziness; inspect, verify and evaluate --compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

import stages
from seqres_cli.commands import COMMANDS, STAGES
from seqres_cli.ending import ended_like_ctrl_c
from seqres_cli.output import number_text, seconds_text, size_text, summary_lines, table_lines
from seqres_cli.stage_command import StageCommand
from stages.config import option_info
from tests.oracles.small_artifacts import write_evaluation

Seqres = Callable[..., Any]
NOT_FOR_HELP = ["torch", "transformers", "cv2", "h5py", "pycocotools", "rich"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(seqres: Seqres, name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, StageCommand) == (name in STAGES)
    assert command.examples[0].startswith(f"seqres {name} ")
    assert all(example.startswith("seqres ") for example in command.examples)
    first = command.help.strip().splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 110
    done = seqres(name, "--help")
    assert done.code == 0, done.err
    assert f"seqres {name} [OPTIONS]" in done.out
    assert "Examples:" in done.out
    assert "--json" in done.out
    if isinstance(command, StageCommand):
        for flag in ("--out", "--force", "--dry-run", "--config", "--print-config", "--quiet"):
            assert flag in done.out


@pytest.mark.parametrize("name", STAGES)
def test_every_option_of_a_stage_has_a_help_text(seqres: Seqres, name: str) -> None:
    import dataclasses

    config_class = COMMANDS[name].load().Config  # type: ignore[union-attr]
    for field in dataclasses.fields(config_class):
        assert option_info(field).help.strip(), field.name
    printed = seqres(name, "--print-config")
    assert printed.code == 0, printed.err
    assert printed.out.startswith(f"[{name}]\n")


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_loads_nothing_heavy(project_root: Path, name: str | None) -> None:
    arguments = [name, "--help"] if name else ["--help"]
    code = (
        "import sys; from seqres_cli.main import main\n"
        f"code = main({arguments!r})\n"
        f"print('LOADED', [m for m in {NOT_FOR_HELP!r} if m in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED [] 0"


def test_the_list_of_commands(seqres: Seqres) -> None:
    done = seqres("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert f"  {name}  " in done.out
    assert seqres().out == done.out


def test_the_version(seqres: Seqres) -> None:
    assert seqres("--version").out == f"seqres {stages.__version__}\n"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("trian-rec", "did you mean seqres train-rec?"),
        ("split_masks", "did you mean seqres split-masks?"),
        ("qqq", "seqres --help lists the commands"),
    ],
)
def test_an_unknown_command(seqres: Seqres, wrong: str, hint: str) -> None:
    done = seqres(wrong)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: no such command: {wrong}\n\nhint: {hint}\n"


def test_an_unknown_option_before_the_command(seqres: Seqres) -> None:
    done = seqres("--versoin")
    assert done.code == 2
    assert done.err == "error: no such option: --versoin\n\nhint: did you mean --version?\n"


def test_the_module_is_the_command(project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqres_cli", "nope"], capture_output=True, text=True, cwd=project_root
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no such command: nope")


# ---- inspect and verify ----


def test_inspect_tells_what_and_whence(seqres: Seqres, data: Path) -> None:
    done = seqres("inspect", data)
    assert done.code == 0, done.err
    for words in (
        f"{data}: split (schema 1, ",
        "stage       by hand (version 1)",
        "made        2025-01-31T12:00:00Z in 0:01:05",
        "seed        4",
        "rank             int64    3",
        "dataset digest",
        "train    3  0.5123",
        "val      4       -",
    ):
        assert words.split() in [line.split() for line in done.out.splitlines()] or words in done.out, words


def test_inspect_as_json(seqres: Seqres, data: Path) -> None:
    record = json.loads(seqres("inspect", data, "--json").out)
    assert record["kind"] == "split"
    assert record["provenance"]["seed"] == 4
    assert {"path": "rank", "dtype": "<i8", "shape": [3], "unit": ""} in record["tree"]
    assert record["problems"] == []


def test_inspect_shows_inputs_configuration_and_command(
    seqres: Seqres, stage: Any, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    assert seqres("toy-stage", "--dataset", data, "--out", out, "--ratio", "0.25").code == 0
    text = seqres("inspect", out).out
    assert f"{data} (split, " in text
    assert "ratio     0.25  (flag)" in text
    assert "splits    train  (default)" in text
    assert f"seqres toy-stage --dataset {data}" in text


def test_inspect_of_something_incomplete_shows_what_is_there(seqres: Seqres, data: Path) -> None:
    with h5py.File(data, "a") as file:
        del file["rank"]
    done = seqres("inspect", data)
    assert done.code == 3
    assert "problem: rank is missing" in done.out
    assert "visible" in done.out


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_inspect_of_damage_is_one_message(seqres: Seqres, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    done = seqres("inspect", path)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"error: {path} is ")
    assert "hint: " in done.err


def test_verify_lists_good_and_bad_files(seqres: Seqres, data: Path, tmp_path: Path) -> None:
    assert seqres("verify", data).out == f"{data}: ok\n"
    bad = tmp_path / "bad.h5"
    bad.write_bytes(data.read_bytes())
    with h5py.File(bad, "a") as file:
        file["rank"][0] = 77
    done = seqres("verify", data, bad, tmp_path / "none.h5", "--quiet")
    assert (done.code, done.err) == (3, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{data}: ok"
    assert lines[1] == f"{bad}: 2 problems"
    assert lines[2] == "  rank: row 0 is 77, outside -1..2 (1 rows)"
    assert lines[-1] == f"  no such file: {tmp_path / 'none.h5'}"
    result = json.loads(seqres("verify", data, bad, "--json", "--quiet").out)
    assert result["ok"] is False
    assert [record["ok"] for record in result["files"]] == [True, False]


# ---- evaluate --compare ----


def test_compare_prints_one_table(seqres: Seqres, tmp_path: Path) -> None:
    files = [write_evaluation(tmp_path / "naive.h5", 0.25), write_evaluation(tmp_path / "full.h5", 0.5)]
    done = seqres("evaluate", "--compare", *files)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "val, masks compared in original pixels"
    assert lines[1].split() == ["name", "weights", "n", "referents", "n", "expressions", "acc@0.5", "miou"]
    table = [line.split() for line in lines]
    told = ["best,", "not", "told", "by", "what"]
    assert ["naive", *told, "2", "4", "0.7500", "0.2500"] in table
    assert ["full", *told, "2", "4", "0.7500", "0.5000"] in table
    rows = json.loads(seqres("evaluate", "--compare", *files, "--json").out)["rows"]
    assert rows[0]["name"] == "naive"
    assert seqres("evaluate", "--compare").code == 2
    stray = seqres("evaluate", files[0])
    assert stray.code == 2
    assert "error: unexpected argument" in stray.err


def test_compare_takes_scores_that_do_not_tell_all(seqres: Seqres, tmp_path: Path) -> None:
    told = write_evaluation(tmp_path / "told.h5", 0.5)
    untold = write_evaluation(
        tmp_path / "untold.h5", 0.5, without=["n_points", "n_mask_referents", "n_mask_sentences"]
    )
    assert "ground truth -> points -> mask (12 points)" in seqres("evaluate", "--compare", told).out
    done = seqres("evaluate", "--compare", untold)
    assert done.code == 0, done.err
    assert "ground truth -> points -> mask  " in done.out


# ---- text ----


def test_numbers_sizes_and_times() -> None:
    assert [number_text(v) for v in (None, True, 0.123456, 12345.6, 3, "a", [], [1, "b"])] == [
        "-", "yes", "0.1235", "12346", "3", "a", "-", "1, b",
    ]  # fmt: skip
    assert [size_text(n) for n in (12, 1500, 2_500_000, 3 * 10**9)] == ["12 B", "1.5 kB", "2.5 MB", "3 GB"]
    assert [seconds_text(s) for s in (1.25, 61, 3725)] == ["1.2 s", "0:01:01", "1:02:05"]


def test_tables_are_aligned() -> None:
    assert table_lines([{"a": "x", "n_b": 1}, {"a": "long", "n_b": None}]) == [
        "  a     n b",
        "  x       1",
        "  long    -",
    ]
    assert table_lines([]) == []


def test_histograms_are_drawn() -> None:
    assert summary_lines({"scores": {"mean": 0.5, "edges": [0, 0.05, 0.1], "counts": [2, 10]}}) == [
        "  scores:",
        "    mean  0.5",
        "    0 to 0.05     2  ██████",
        "    0.05 to 0.1  10  ██████████████████████████████",
    ]


def test_what_only_looks_like_a_histogram_is_shown_as_it_is() -> None:
    """The summary of a file may hold anything."""
    for counts in ([{}], ["1"], [float("nan")], None, 3):
        assert summary_lines({"scores": {"edges": [0, 1], "counts": counts}})[0] == "  scores:"


def test_summaries_of_any_nesting() -> None:
    summary = {
        "n": 1,
        "empty": {},
        "by_split": {"val": {"x": 1}},
        "rows": [{"y": {"z": 2}}],
        "deep": {"k": {"a": {"b": 1}}},
    }
    assert summary_lines(summary) == [
        "  n  1",
        "  empty:",
        "  by split:",
        "         x",
        "    val  1",
        "  rows:",
        "    1.",
        "      y:",
        "        z  2",
        "  deep:",
        "    k:",
        "         b",
        "      a  1",
    ]


_WAITING = """
import signal, sys
import stages.artifacts.verify as verify
from seqres_cli.main import main

def wait(path):
    print("ready", flush=True)
    signal.pause()

verify.verify_artifact = wait
sys.exit(main(["verify", "a.h5"]))
"""


def test_ctrl_c_ends_with_130_and_one_line(project_root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING],
        cwd=project_root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[0] == "error: interrupted"
    assert "Traceback" not in errors


def test_a_request_to_end_does_not_cut_off_an_error_that_is_being_told() -> None:
    """torchrun sends it as soon as one of its processes has ended."""
    with ended_like_ctrl_c() as ended:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.signal == signal.SIGTERM
    with ended_like_ctrl_c() as ended:
        ended.told = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.signal == signal.SIGTERM
