"""What is wrong with a command is told before torch is loaded, where it can be known by then: in well under 2 s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracles.random_models import write_random_model
from tests.oracles.small_artifacts import write_dataset, write_pseudo, write_split
from tests.oracles.tool_files import picture

COMMANDS = {
    "split-masks": "--dataset dataset.h5 --ratio 0.5",
    "train-rec": "--dataset dataset.h5",
    "train-res": "--dataset dataset.h5 --split split.h5 --rec box.h5",
    "pseudo-label": "--dataset dataset.h5 --split split.h5 --model model.h5",
    "refine-masks": "--dataset dataset.h5 --pseudo pseudo.h5",
    "resample-points": "--dataset dataset.h5 --pseudo pseudo.h5",
    "evaluate": "--dataset dataset.h5 --model model.h5",
    "visualize-attention": "--dataset dataset.h5 --model model.h5",
    "predict": "--model model.h5 --image a.png --phrase x",
    "export-weights": "--model model.h5",
    "import-weights": "--source model.h5",
}
WRONG_FILES = {
    "gone.h5": "no such file: gone.h5",
    "text.txt": "text.txt is ",
    "broken.h5": "broken.h5 is damaged",
}
_RUN = """
import contextlib, io, json, sys
from seqres_cli.main import main
for line in sys.stdin:
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        code = main(line.split())
    print(json.dumps([line.strip(), code, told.getvalue(), "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("inputs")
    for name, splits in (("dataset", ["train"] * 4 + ["val"]), ("other", ["train"] * 3)):
        write_dataset(here / f"{name}.h5", splits, pictures=True)
    write_split(here / "split.h5", here / "dataset.h5", [True, False, True, False, False])
    write_split(here / "other_split.h5", here / "other.h5", [True, False, True])
    write_pseudo(
        here / "pseudo.h5", here / "dataset.h5", [(0, 0, 0.9, [(6, 11), (20, 12), (15, 35)])], n_points=3
    )
    write_random_model(here / "box.h5", "box")
    write_random_model(here / "model.h5", "box-contour")
    picture(here / "a.png")
    (here / "text.txt").write_text("hello")
    (here / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 100)
    return here


def mistakes() -> dict[str, str]:
    """Command line -> words of its error."""
    found: dict[str, str] = {}
    for command, given in COMMANDS.items():
        words = given.split()
        for name in (word for word in words if word.endswith(".h5")):
            for wrong, told in WRONG_FILES.items():
                if command != "import-weights" or wrong == "gone.h5":
                    found[f"{command} {given.replace(name, wrong)} --out new.h5"] = told
            if command != "import-weights":
                other = "split.h5" if name != "split.h5" else "dataset.h5"
                found[f"{command} {given.replace(name, other)} --out new.h5"] = "artifact, expected "
        if "--split split.h5" in given:
            found[f"{command} {given} --out new.h5".replace(" split.h5", " other_split.h5")] = (
                "was not made from"
            )
        found[f"{command} {given}"] = f"{command} needs --out"
        if command not in ("import-weights", "export-weights"):
            found[f"{command} {given} --out /proc/new.h5"] = "/proc"
        found[f"{command} {given} --out new.h5 --config nowhere"] = "no such file: nowhere"
        found[f"{command} {given} --out new.h5 --bogus 1"] = "no such option: --bogus"
        if command not in ("split-masks", "resample-points", "import-weights", "export-weights"):
            found[f"{command} {given} --out new.h5 --device tpu"] = "unknown device 'tpu'"
    for command, option, told in (
        ("split-masks", "--ratio 0", "ratio must be in (0, 1], got 0"),
        ("train-rec", "--lr -1", "lr must be above 0, got -1"),
        ("train-res", "--epochs 0", "epochs must be at least 1, got 0"),
        ("resample-points", "--n-points 2", "n-points must be at least 3, got 2"),
    ):
        found[f"{command} {COMMANDS[command]} --out new.h5 {option}"] = told
    found["import-weights --source text.txt --out new.h5"] = "the words of the model are not given"
    found["import-weights --source dataset.h5 --vocabulary text.txt --out new.h5"] = (
        "dataset.h5 is an HDF5 file"
    )
    found["import-weights --source text.txt --vocabulary gone.pkl --out new.h5"] = "no such file: gone.pkl"
    return found


def test_mistakes_are_told_before_torch_is_loaded(folder: Path) -> None:
    expected = mistakes()
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input="\n".join(expected),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, *_ in answers] == list(expected)
    wrong = [
        (line, code, told, loaded)
        for line, code, told, loaded in answers
        if loaded
        or code not in (2, 3)
        or told.count("error: ") != 1
        or not told.startswith("error: ")
        or "hint: " not in told
        or expected[line].lower() not in told.lower()
    ]
    assert wrong == [], wrong
    assert not (folder / "new.h5").exists()
