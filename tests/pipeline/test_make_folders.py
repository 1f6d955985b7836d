"""What make writes and removes: only its own, whatever the folders are called; with a `seqres` that only makes files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

STAND_IN = """#!/bin/sh
# Puts its call into --out; refuses (3) to replace a file without --force; a dry run is never up to date
call="$*"; out=; force=
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2; shift ;; --dry-run) exit 3 ;; --force) force=1 ;; esac
  shift
done
[ -n "$out" ] || exit 0
case $call in report*)
  mkdir -p "$out"; echo 1 > "$out/cards.js"
  printf '<html></html>\\n<!-- files of this page: cards.js -->\\n' > "$out/index.html"; exit 0 ;;
esac
[ ! -e "$out" ] || [ -n "$force" ] || { echo "error: $out exists" >&2; exit 3; }
echo "$call" > "$out"
case $out in *attention*)
  mkdir -p "${out%.h5}_figures"; echo 1 > "${out%.h5}_figures/a%20b.png"
  printf '<html></html>\\n<!-- files of this page: a%%20b.png -->\\n' > "${out%.h5}_figures/index.html" ;;
esac
"""

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path, project_root: Path) -> Path:
    """What make needs of the project, in a folder whose name has blanks, with an environment that looks finished."""
    folder = tmp_path / "my code's" / "seqres"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(project_root / name, folder)
    (folder / "scripts").mkdir()
    for name in ("made.sh", "demo.sh", "pipeline.mk", "pipeline_files.mk"):
        shutil.copy(project_root / "scripts" / name, folder / "scripts")
    seqres = folder / ".venv" / "bin" / "seqres"
    seqres.write_text(STAND_IN)
    seqres.chmod(0o755)
    for name in (".seqres-made", ".seqres-ready"):
        (folder / ".venv" / name).touch()
    return folder


@pytest.fixture
def make(checkout: Path) -> Make:
    def call(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        done = subprocess.run(
            ["make", *words], cwd=checkout, env={**kept, **environment}, capture_output=True, text=True
        )
        assert (done.returncode != 0) == (code != 0), done.stdout + done.stderr
        return done

    return call


PIPELINE = ("-f", "scripts/pipeline.mk")


@pytest.mark.parametrize(
    "out", ["my runs", "-runs", "ends/", "it's $HOME #1", "../beside", "{tmp}/absolute one"]
)
def test_demo_and_clean_with_any_name(make: Make, checkout: Path, tmp_path: Path, out: str) -> None:
    precious = [checkout / name / "precious" for name in ("my", "runs", "data/my", "home")]
    for file in precious:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("keep")
    out = out.format(tmp=tmp_path)
    word = "OUT=" + out.replace("$", "$$")
    make("-j2", "demo", word)
    folder = Path(os.path.normpath(checkout / out)) / "demo"
    assert (folder / "report" / "cards.js").exists()
    made = {p.name for p in folder.glob("*.h5")}
    assert {"dataset.h5", "rec.h5", "final-0.05.h5", "attention-0.05.h5"} <= made
    make("clean", word)
    assert not folder.exists()
    assert not folder.parent.exists() or folder.parent == checkout.parent
    assert not (checkout / ".venv").exists()
    assert [file.read_text() for file in precious] == ["keep"] * len(precious)
    assert sorted(p.name for p in checkout.iterdir() if p.is_file()) == [
        "Makefile", "constraints.txt", "pyproject.toml",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [("clean",), (*PIPELINE, "clean"), (*PIPELINE, "table"), ("-e", "clean")])
def test_names_in_the_environment_are_somebody_elses(
    make: Make, checkout: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in (".made-by-seqres", "pyvenv.cfg", ".seqres-made", "precious"):
        (other / name).write_text("precious\n")
    make(*words, OUT=str(other), VENV=str(other), SEQRES=str(checkout / ".venv" / "bin" / "seqres"))
    assert sorted(p.name for p in other.iterdir()) == [
        ".made-by-seqres", ".seqres-made", "precious", "pyvenv.cfg",
    ]  # fmt: skip


def test_clean_removes_what_was_made_and_nothing_else(make: Make, checkout: Path) -> None:
    make("demo")
    demo = checkout / "runs" / "demo"
    (demo / "notes.txt").write_text("mine")
    (demo / "attention-0.05_figures" / "drawn.png").write_text("mine")
    (demo / ".rec.h5.resume").write_text("")
    (checkout / "runs" / "photos").mkdir()
    (checkout / "runs" / "photos" / "a.jpg").write_text("mine")
    (checkout / "dist").mkdir()
    done = make("clean")
    assert "left in ./runs/demo, as make did not make it: attention-0.05_figures notes.txt" in done.stdout
    left = sorted(str(p.relative_to(checkout)) for p in checkout.glob("runs/**/*") if p.is_file())
    assert left == [
        "runs/demo/attention-0.05_figures/drawn.png", "runs/demo/notes.txt", "runs/photos/a.jpg",
    ]  # fmt: skip
    assert (checkout / "dist").exists()
    make("clean")  # what is left is no reason to fail


@pytest.mark.parametrize("out", [".", "..", "/", "~", "data", "data/", "link", "data/my runs"])
def test_a_folder_that_make_did_not_make_is_refused(make: Make, checkout: Path, out: str) -> None:
    for folder in (checkout / "data" / "my runs", checkout / "~"):
        folder.mkdir(parents=True)
        (folder / "precious").write_text("keep")
    (checkout / "link").symlink_to("data")
    before = sorted(checkout.rglob("*"))
    for words in ("clean",), (*PIPELINE, "clean"), (*PIPELINE, "all"):
        done = make(*words, f"OUT={out}", code=2)
        assert "made" in done.stderr or "make needs a name" in done.stderr
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize("venv", ["my env", "/opt/$x", "-v", "a'b"])
def test_an_environment_that_make_cannot_name_is_refused_at_once(
    make: Make, checkout: Path, venv: str
) -> None:
    done = make("setup", f"VENV={venv.replace('$', '$$')}", code=2)
    assert "VENV: make needs a name without blanks and special signs" in done.stderr
    assert (checkout / ".venv" / ".seqres-made").exists()


def test_an_environment_of_somebody_is_not_removed(make: Make, checkout: Path) -> None:
    (checkout / "mine" / "bin").mkdir(parents=True)
    assert "left: ./mine, as make setup did not create it" in make("clean", "VENV=mine").stdout
    assert (checkout / "mine" / "bin").exists()


def test_a_link_to_another_disk_is_followed(make: Make, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (checkout / "fast").symlink_to(tmp_path / "big disk")
    seqres = f"SEQRES={checkout / '.venv' / 'bin' / 'seqres'}"
    make(*PIPELINE, "OUT=fast", seqres, "all")
    assert (tmp_path / "big disk" / "rec.h5").exists()
    make(*PIPELINE, "OUT=fast", "clean")
    assert (checkout / "fast").is_symlink() and list((tmp_path / "big disk").iterdir()) == []


def test_a_file_of_somebody_in_the_folder_is_not_replaced(make: Make, checkout: Path) -> None:
    seqres = f"SEQRES={checkout / '.venv' / 'bin' / 'seqres'}"
    make(*PIPELINE, "OUT=mine", seqres, "mine/dataset.h5")
    (checkout / "mine" / "rec.h5").write_text("years of work")
    os.utime(checkout / "mine" / "rec.h5", (1, 1))
    make(*PIPELINE, "OUT=mine", seqres, "all", code=2)
    assert (checkout / "mine" / "rec.h5").read_text() == "years of work"
    make(*PIPELINE, "OUT=mine", "clean")
    assert [p.name for p in (checkout / "mine").iterdir()] == ["rec.h5"]


@pytest.mark.parametrize(
    "words", [("OUT=my runs",), ("OUT=ok", "DATA=my data.h5"), ("OUT=-x",), ("OUT=a:b",)]
)
def test_the_graph_says_which_names_it_cannot_take(
    make: Make, checkout: Path, words: tuple[str, ...]
) -> None:
    before = sorted(checkout.rglob("*"))
    assert "make needs a name without blanks" in make(*PIPELINE, *words, "all", code=2).stderr
    assert sorted(checkout.rglob("*")) == before


def test_the_graph_from_inside_a_folder_with_blanks(make: Make, checkout: Path) -> None:
    folder, seqres = checkout / "my runs", f"SEQRES={checkout / '.venv' / 'bin' / 'seqres'}"
    folder.mkdir()
    file = str(checkout / "scripts" / "pipeline.mk")
    make("-C", str(folder), "-f", file, "OUT=.", seqres, "all")
    assert "pictures: " + str(folder) in make("-C", str(folder), "-f", file, "OUT=.", seqres).stdout
    make("-C", str(folder), "-f", file, "OUT=.", "clean")
    assert not folder.exists() or list(folder.iterdir()) == []
