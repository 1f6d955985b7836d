"""What README and how-to pages tell a reader to type works; the reference of commands is up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import stages
from seqres_cli.main import main
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.typed_commands import run_typed

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("howto/*.md"))]
RUNNING = (ROOT / "docs" / "howto" / "running.md").read_text("utf-8")
# The commands of docs/reference.md are examples of --help, which tests/cli/test_examples.py runs


def blocks(page: Path, *languages: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    """Every line of the fenced console and bash blocks, without the prompt."""
    lines = [
        line.removeprefix("$ ").strip()
        for block in blocks(page, "console", "bash")
        for line in block.splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in commands(page)}))
def test_every_command_of_the_pages_works(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        if tables := blocks(page, "toml"):
            (tmp_path / "run.toml").write_text("".join(tables))
    run_typed(shlex.split(line), tmp_path)


@pytest.mark.parametrize("text", sorted({text for page in PAGES for text in blocks(page, "toml")}))
def test_the_toml_examples_are_what_the_command_line_takes(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    assert tomllib.loads(text)
    for name in tomllib.loads(text):
        assert main([name, "--config", str(tmp_path / "run.toml"), "--print-config"]) == 0


def test_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data.h5", ["train"] * 40 + ["val"])
    monkeypatch.chdir(tmp_path)
    for text in {text for page in PAGES for text in blocks(page, "python")}:
        exec(compile(text, "example", "exec"), {})
    assert capsys.readouterr().out.startswith("written {")


def test_the_reference_is_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "scripts" / "make_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text("utf-8") == module.reference(), "run: python scripts/make_reference.py"


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if f"]({page})" not in index] == ["README.md"]


def test_links_and_pictures_of_the_documents_exist() -> None:
    missing = []
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                missing.append(f"{document.name}: {target}")
    assert not missing


def test_the_first_screen_names_the_two_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    for target in ("make demo", "make test"):
        assert f"$ {target}\n" in first_screen
        assert f"| `{target}` |" in first_screen


def test_exit_codes_are_those_of_the_errors() -> None:
    from stages import errors

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", RUNNING, re.M)}
    used = {
        c.exit_code
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, errors.SeqresError)
    }
    assert documented == used | {0, 130}


def test_the_snakefile_of_shards_plans_all_of_them(tmp_path: Path) -> None:
    """Four parts, and what joins them."""
    import subprocess
    import sys

    (snakefile,) = blocks(ROOT / "docs" / "howto" / "running.md", "snakemake")
    (tmp_path / "Snakefile").write_text(snakefile)
    for name in ("data.h5", "split.h5", "first.h5"):
        (tmp_path / name).touch()
    call = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--cores", "1"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert [f"--shard {i}/4 --out pseudo-{i}.h5" in said for i in range(1, 5)] == [True] * 4
    joined = " ".join(f"pseudo-{i}.h5" for i in range(1, 5))
    assert f"seqres merge {joined} --out pseudo.h5" in said


def test_the_changelog_has_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == stages.__version__
    assert re.search(
        rf"^## {re.escape(stages.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
