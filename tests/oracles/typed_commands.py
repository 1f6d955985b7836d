"""What people are told to type, run: the files that a command names are made, and it is run as far as is quick."""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from seqres_cli.commands import COMMANDS
from seqres_cli.main import main
from seqres_cli.processes import SHARING
from stages.artifacts import write_artifact
from tests.oracles.public_formats import gref, write_grefcoco, write_mdetr, write_seqtr
from tests.oracles.refer_folder import ReferFolder
from tests.oracles.small_artifacts import (
    digest,
    write_dataset,
    write_evaluation,
    write_model,
    write_pseudo,
    write_shard,
    write_split,
)

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("coco", "labelstudio", "labelme", "masks")  # tests/docs/test_data_in_and_out.py runs these
CSV = "image,expression,x1,y1,x2,y2,split\na.png,the red cup,2,2,20,20,train\n"


def run_typed(words: list[str], folder: Path) -> None:
    """Run `words` in `folder`, the working directory; the last word on how is that of the command."""
    words = words[: min((words.index(sign) for sign in "<>" if sign in words), default=len(words))]
    _CHECKS.get(words[0], _check_script)(words, folder)


def _check_seqres(words: list[str], folder: Path) -> None:
    name = words[1]
    assert name in COMMANDS, f"no command {name}"
    given = _given(words[2:])
    _make_files(name, given, words)
    words = ["cpu" if word == "cuda" else word for word in words]
    arguments = [path for word in words[1:] for path in (sorted(glob.glob(word)) or [word])]
    if name in ("inspect", "verify", "doctor") or "--compare" in words or "--print-config" in words:
        assert main(arguments) == 0
    elif (
        name == "report"
    ):  # finds no pictures or files here (3), but knows its options (else 2); tests/browser has a run
        assert main(arguments) == 3
    elif (
        name in ("import-weights", "export-weights", "export")
        or "decisions" in given
        or "-" in words
        or given.get("segmenter", "grabcut") != "grabcut"
        or given.get("source") in TOOLS
    ):
        # these look into files from elsewhere at once: their options are checked and no more
        assert main([*arguments, "--print-config"]) == 0
    else:
        assert main([*arguments, "--dry-run"]) == 0


def _given(words: list[str]) -> dict[str, str]:
    """Flag without dashes -> its (last) value."""
    return {a[2:]: b for a, b in zip(words, [*words[1:], ""], strict=True) if a.startswith("--")}


def _make_files(name: str, given: dict[str, str], words: list[str]) -> None:
    """Small valid artifacts and folders under the names that the command gives."""
    dataset = Path(given.get("dataset", "data.h5"))
    if name != "prepare-data" and not dataset.exists():
        write_dataset(dataset, ["train"] * 6 + ["val"])
    stands_for: dict[str, Callable[[Path], object]] = {
        "split": lambda p: write_split(p, dataset, [True] * 2 + [False] * 5),
        "rec": lambda p: write_model(p, dataset, "rec_model"),
        "init": lambda p: write_model(p, dataset, "rec_model" if name == "train-rec" else "res_model"),
        "model": lambda p: write_model(p, dataset),
        "compare-model": lambda p: write_model(p, dataset),
        "pseudo": lambda p: write_pseudo(p, dataset, [(2, 4, 0.9, [(1, 1), (9, 1), (5, 9)])]),
        "points": lambda p: _write_points(p, dataset, given.get("pseudo")),
    }
    for flag, make in stands_for.items():
        path = Path(given.get(flag, ""))
        if path.suffix == ".h5" and not path.exists():
            make(path)
    if name in ("inspect", "verify") or "--compare" in words:
        for word in words[2:]:
            path = Path(word.replace("*", "a"))
            if path.suffix == ".h5" and not path.exists():
                path.parent.mkdir(exist_ok=True, parents=True)
                write_evaluation(path, 0.5) if "--compare" in words else write_dataset(path, ["train", "val"])
    if name == "merge":
        shards = [Path(word) for word in words[2 : words.index("--out")]]
        for number, path in enumerate(shards, 1):
            write_shard(path, dataset, number, len(shards))
    if name == "prepare-data":
        _make_source(given)
    for flag, content in (("import-list", "1\n2\n"), ("table", CSV), ("config", "")):
        path = Path(given.get(flag, ""))
        if path.suffix and not path.exists():
            path.write_text("[1, 2]" if flag == "import-list" and path.suffix == ".json" else content)
    if given.get("import-list", "").endswith(".csv"):
        Path(given["import-list"]).write_text("ref_id\n1\n2\n")
    if name == "predict":
        for picture in ("a.png", given.get("image", "a.png")):
            if not Path(picture).suffix:
                Path(picture).mkdir()
                picture = f"{picture}/a.png"
            cv2.imwrite(picture, np.full((220, 220, 3), 90, np.uint8))


def _make_source(given: dict[str, str]) -> None:
    """What `--source` reads, below `--root`."""
    source, root = given.get("source", "refshapes"), Path(given.get("root", "root"))
    name, by = given.get("name", "refcoco"), given.get("by", "unc")
    if source == "table":
        root.parent.mkdir(parents=True, exist_ok=True)
        root.write_text(CSV)
        cv2.imwrite(str(root.parent / "a.png"), np.full((40, 40, 3), 90, np.uint8))
    if "textures" in given:
        Path(given["textures"]).mkdir()
        cv2.imwrite(f"{given['textures']}/a.png", np.full((99, 99, 3), 90, np.uint8))
    if source not in ("refer", "seqtr", "mdetr", "grefcoco"):
        return
    whole = root.parent if source == "grefcoco" or "name" not in given else root
    folder = ReferFolder(whole)
    folder.write()
    if source == "refer":
        folder.folder.rename(whole / name)
        (whole / name / "refs(unc).p").rename(whole / name / f"refs({by}).p")
    elif source == "seqtr":
        write_seqtr(folder, f"{name}-{by}" if "name" in given else root.name)
    elif source == "mdetr":
        write_mdetr(folder, name)
    else:
        write_grefcoco(folder, [gref(1, [101], 11, "train"), gref(2, [105], 12, "val")])
    if "images" in given:
        folder.pictures.rename(given["images"])


def _write_points(path: Path, dataset: Path, pseudo: str | None) -> None:
    with write_artifact(path, "resampled_points", fingerprint="f", provenance={}) as w:
        for attribute, value in (
            ("dataset_digest", digest(dataset)),
            ("pseudo_digest", digest(Path(pseudo)) if pseudo else "0" * 64),
            ("n_points", 3),
        ):
            w.attr(attribute, value)
        for column in ("referent_index", "sentence_index"):
            w.column(column, np.zeros(0, np.int64))
            w.column(f"decisions/{column}", np.zeros(0, np.int64))
        w.column("points_xy", np.zeros((0, 3, 2), np.float32))
        for column in ("score", "confidence", "weight", "decisions/score"):
            w.column(column, np.zeros(0, np.float32))
        w.strings("decisions/reason", [])


def _check_make(words: list[str], folder: Path) -> None:
    """The goals exist and their commands can be listed."""
    options = [f"OUT={folder / 'out'}" if word.startswith("OUT=") else word for word in words[1:]]
    for word in [word for word in options if word.startswith("DATA=")]:
        (folder / word.removeprefix("DATA=")).touch()
        options[options.index(word)] = f"DATA={folder / word.removeprefix('DATA=')}"
    done = subprocess.run(["make", "--dry-run", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _check_script(words: list[str], folder: Path) -> None:
    """The script is there, may be run, and is valid shell."""
    script = ROOT / words[0]
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def _check_pip(words: list[str], folder: Path) -> None:
    """Installs this project with the constraints that are there; `make setup` does it for every test run."""
    assert words[1:] == ["install", "-c", "constraints.txt", "."]
    assert (ROOT / "constraints.txt").is_file()


def _check_torchrun(words: list[str], folder: Path) -> None:
    """What the processes do is a command that works, and that several may share."""
    module = words.index("-m")
    assert words[module + 1] == "seqres_cli"
    assert words[module + 2] in SHARING
    _check_seqres(["seqres", *words[module + 2 :]], folder)


_CHECKS = {"torchrun": _check_torchrun, "seqres": _check_seqres, "make": _check_make, "pip": _check_pip}
