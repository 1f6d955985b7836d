"""The files round the code agree with each other: requirements, constraints, make targets, scripts."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import tomllib
from collections.abc import Collection
from pathlib import Path

import make_licences
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from seqres_cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and line[0] != "#"
)


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_every_requirement_is_pinned_to_a_version_it_allows(text: str) -> None:
    requirement = Requirement(text)
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_the_lowest_versions_are_those_that_the_tests_are_run_with() -> None:
    """`make test-minimum` installs constraints-min.txt."""
    text = (ROOT / "constraints-min.txt").read_text("utf-8")
    lowest = {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, text.splitlines()[1:])}
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *extras["onnx"], *extras["reproduce"], *extras["dev"]]
    bounds = {
        canonicalize_name(r.name): [s.version for s in r.specifier if s.operator == ">="]
        for r in map(Requirement, texts)
    }
    for tool in ("mypy", "playwright", "pyinstrument", "ruff"):
        del bounds[tool]
    assert {n: Version(v) for n, (v,) in bounds.items()} == {n: Version(v[2:]) for n, v in lowest.items()}


def test_every_dependency_has_its_licence_on_the_page() -> None:
    assert make_licences.PATH.read_text("utf-8") == make_licences.page(), "run scripts/make_licences.py"
    assert "not stated" not in make_licences.page()


def test_only_one_build_of_opencv_is_asked_for() -> None:
    assert [name for name in PINS if name.startswith("opencv")] == ["opencv-python-headless"]


@pytest.mark.parametrize(
    "target",
    [
        "setup",
        "demo",
        "test",
        "lint",
        "bench",
        "crash",
        "fuzz",
        "reproduce",
        "wheel-check",
        "test-minimum",
        "audit",
        "clean",
    ],
)
def test_make_targets_exist_and_stand_on_setup(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^  make {target} ", listed, re.M)
    rule = re.search(rf"^{target}:(.*?)##", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert rule is not None
    assert rule[1].strip() == ("" if target == "clean" else "$(STAMP)")


def test_an_old_python_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo "Python 3.9.1"; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert f"seqres needs Python 3.11 or newer, but {old} is Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    "script", [".ci/run", *(f"scripts/{p.name}" for p in (ROOT / "scripts").glob("*.sh"))]
)
def test_scripts_are_valid_and_may_be_run(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert (ROOT / script).stat().st_mode & 0o111


CALL_LOG = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.log"
while [ $# -gt 0 ]; do [ "$1" = --out ] && { mkdir -p "$(dirname "$2")"; touch "$2"; }; shift; done
"""


def logged_calls(command: list[str], stand_in: Path) -> list[list[str]]:
    """How a script calls seqres, told by a stand-in that makes empty files."""
    stand_in.write_text(CALL_LOG)
    stand_in.chmod(0o755)
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [shlex.split(line) for line in Path(f"{stand_in}.log").read_text().splitlines()]


def check_calls(calls: list[list[str]], expected: int, without: Collection[str] = ()) -> None:
    stages_called = [
        call for call in calls if call[0] not in ("inspect", "verify", "report") and "--compare" not in call
    ]
    assert len(stages_called) >= expected
    assert {call[0] for call in stages_called} == {
        "prepare-data", "split-masks", "train-rec", "train-res", "pseudo-label", "refine-masks", "resample-points",
        "evaluate", "visualize-attention",
    } - set(without)  # fmt: skip
    for call in stages_called:
        assert main([*call, "--print-config"]) == 0, " ".join(call)


@pytest.mark.parametrize(
    ("scale", "more", "expected"),
    [
        ("tiny", [], 21),
        ("smoke", [], 21),
        ("standard", [], 21),
        ("tiny", ["TAG=2", "TEACHER=first", "KEEP=encoder"], 21),
    ],
)
def test_the_pipeline_gives_flags_that_the_stages_take(
    scale: str, more: list[str], expected: int, tmp_path: Path
) -> None:
    seqres = tmp_path / "seqres"
    command = [
        "make",
        "-f",
        "scripts/pipeline.mk",
        f"SEQRES={seqres}",
        f"OUT={tmp_path / 'out'}",
        f"SCALE={scale}",
        *more,
    ]
    calls = logged_calls(command, seqres)
    check_calls(calls, expected)
    name, *files = calls[-1]  # a page of all that was made
    assert name == "report"
    assert {"dataset.h5", "rec.h5", "all-masks.h5"} <= {Path(file).name for file in files}


@pytest.mark.parametrize("scale", ["smoke", "standard"])
def test_rows_of_the_pipeline_see_as_many_sequences(scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    def seen(recipe: str) -> int:
        assert main(["train-res", "--config", f"pipeline-{scale}:{recipe}", "--print-config"]) == 0
        flags = tomllib.loads(capsys.readouterr().out)
        flags = flags.get("train-res", flags)
        return math.prod(
            flags[key] for key in ("epochs", "steps-per-epoch", "batch-images", "expressions-per-image")
        )

    budget = seen("all-masks")
    assert seen("naive") == seen("paper") + seen("paper-all") == seen("first") + seen("final") == budget


def test_the_photograph_script_gives_flags_that_the_stages_take(tmp_path: Path) -> None:
    seqres, python = tmp_path / "seqres", tmp_path / "python"
    python.write_text("#!/bin/sh\necho 0.9\n")
    python.chmod(0o755)
    command = [
        "env",
        f"SEQRES={seqres}",
        f"PYTHON={python}",
        "scripts/real_photos.sh",
        str(tmp_path),
        str(tmp_path / "out"),
    ]
    check_calls(logged_calls(command, seqres), 2 * 9, without={"refine-masks"})


def test_the_script_for_own_photographs_gives_flags_that_the_stages_take(tmp_path: Path) -> None:
    seqres, table = tmp_path / "seqres", tmp_path / "photos.csv"
    table.touch()
    command = [
        "env", f"SEQRES={seqres}", "SEGMENTER=grabcut", "scripts/few_photo_masks.sh", str(table), str(tmp_path / "out"),
    ]  # fmt: skip
    calls = logged_calls(command, seqres)
    assert [call[0] for call in calls] == ["prepare-data", "refine-masks"]
    for call in calls:
        assert main([*call, "--print-config"]) == 0, " ".join(call)
