"""Files of any other format that a command reads: how they are written, damaged and read."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np

from stages.errors import ArtifactError
from tests.fuzz.annotation_files import odd_json, odd_table
from tests.fuzz.mutations import damaged_bytes, json_text, odd_pickle
from tests.fuzz.runner import Read, Target, copied
from tests.oracles.picture_bytes import encoded, scene
from tests.oracles.small_artifacts import write_dataset
from tests.oracles.tool_files import picture


class SingleFile:
    """A file (or a few) of any format: `write` makes them, `damage` one of them, `read` is tried on the folder."""

    def __init__(
        self,
        name: str,
        write: Callable[[Path], None],
        damage: Callable[[bytes, Path, Random], bytes],
        read: Callable[[Path, Path], object],
    ) -> None:
        self.name, self._write, self._damage, self._read_file = name, write, damage, read

    def prepare(self, folder: Path) -> None:
        (folder / "victims").mkdir()
        self._write(folder / "victims")

    def warm(self, here: Path, folder: Path) -> None:
        for path in self._choice(here / "victims"):
            self._read_file(here / "victims", path)

    def case(self, seeds: Path, folder: Path, rng: Random) -> Read:
        here = copied(seeds, folder) / "victims"
        path = rng.choice(self._choice(here))
        path.write_bytes(self._damage(path.read_bytes(), path, rng))
        return lambda: self._read_file(here, path)

    @staticmethod
    def _choice(here: Path) -> list[Path]:
        return sorted(p for p in here.iterdir() if not p.name.startswith("keep"))


def _write_requests(folder: Path) -> None:
    picture(folder / "keep.png")
    rows = [
        {"image": "keep.png", "expression": "the red mug", "x1": 5, "y1": 5, "x2": 25, "y2": 25},
        {"image": "keep.png", "expression": "one"},
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.json").write_text(json.dumps(rows))
    piped = [row | {"image": str(folder / "keep.png")} for row in rows]  # names there may be whole paths
    (folder / "piped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in piped))
    (folder / "t.csv").write_text(
        "image,expression,x1,y1,x2,y2\nkeep.png,the red mug,5,5,25,25\nkeep.png,one,,,,\n"
    )


def _read_requests(folder: Path, path: Path) -> None:
    from stages.data.photographs import Photographs, requests_of_table

    if path.stem != "piped":
        Photographs.open(requests_of_table(path))
    else:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            Photographs.open(requests_of_table(Path("-"), piped=lines))


def _write_decisions(folder: Path) -> None:
    from tests.oracles.small_artifacts import digest

    data = write_dataset(folder / "keep.h5", ["train"] * 4)
    content = {
        "format": "seqres-decisions", "version": 1, "dataset_digest": digest(data),
        "decisions": [
            {"ref_id": 1, "referent_index": 0, "sentence_index": 1, "verdict": "accept"},
            {"ref_id": 2, "polygon": [[6, 11], [20, 12], [15, 35]]},
            {"ref_id": 3, "segmentation": {"size": [60, 80], "counts": [100, 50, 4650]}},
        ],
    }  # fmt: skip
    (folder / "decisions.json").write_text(json.dumps(content))


def _read_decisions(folder: Path, path: Path) -> None:
    from stages.artifacts import open_artifact
    from stages.metrics.decisions import read_decisions

    with open_artifact(folder / "keep.h5", "dataset") as data:
        read_decisions(path, data)


_TOML = """extends = "keep_base.toml"
[train-rec]
epochs = 3
lr = 1e-3
device = "cpu"
[split-masks]
ratio = 0.25
[recipe.fast]
extends = "slow"
[recipe.fast.train-rec]
epochs = 1
[recipe.slow.train-rec]
epochs = 9
"""


def _write_toml(folder: Path) -> None:
    (folder / "keep_base.toml").write_text("[train-rec]\nseed = 3\n")
    (folder / "c.toml").write_text(_TOML)


def _odd_toml(data: bytes, path: Path, rng: Random) -> bytes:
    odd = (b"9" * 5000, b"[" * 5000, b"[" * 400 + b"]" * 400, b"{a=" * 500, b'"x"', b"1e999", b"nan", b"-1", b"[1, [2, {a = 3}]]", b"true",
           b"1979-05-27T07:32:00Z", b'"""' + b"x" * 90_000 + b'"""', b"{ extends = 3 }", b"'none'", b"0x" + b"f" * 6000, b"inf", b"[]")  # fmt: skip
    if rng.random() < 0.4:
        return damaged_bytes(data, rng)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 1:
        lines.insert(
            at,
            rng.choice(
                (
                    b"[",
                    b"[[recipe]]",
                    b"recipe = 3",
                    b"[recipe]",
                    b"[x.y]",
                    b"a." * 3000 + b"b = 1",
                    b"[recipe.fast.fast]",
                    b"x = " + rng.choice(odd),
                )
            ),
        )
    else:
        lines[at] = lines[at].partition(b"=")[0] + b"= " + rng.choice(odd)
    return b"\n".join(lines)


def _read_toml(folder: Path, path: Path) -> None:
    from seqres_cli.config_file import resolve
    from stages import split_masks, train_rec

    known = ["train-rec", "split-masks"]
    for reference in (str(path), f"{path}:fast"):
        for stage, config in (("train-rec", train_rec.Config), ("split-masks", split_masks.Config)):
            resolve(config, stage, {}, reference, known)


def _write_exported(folder: Path) -> None:
    from stages.artifacts import open_artifact
    from stages.weights.exchange import write_folder
    from tests.oracles.random_models import write_random_model

    with open_artifact(write_random_model(folder.parent / "model.h5", "detector with masks")) as model:
        (folder.parent / "exported").mkdir()
        write_folder(model, folder.parent / "exported")
    for path in (folder.parent / "exported").iterdir():
        shutil.copy(path, folder / path.name)


def _odd_exported(data: bytes, path: Path, rng: Random) -> bytes:
    return json_text(json.loads(data), rng) if path.suffix == ".json" else damaged_bytes(data, rng)


def _read_exported(folder: Path, path: Path) -> None:
    from stages.weights.exchange import read_folder

    read_folder(folder)


def _write_checkpoints(folder: Path) -> None:
    import torch

    state = {"vis_enc.conv.weight": torch.zeros(2, 3), "lan_enc.embedding.weight": torch.ones(4, 3)}
    content = {"state_dict": state, "ema_state_dict": state, "epoch": 3, "best": np.float64(0.5)}
    torch.save(content, folder / "zip.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)


def _odd_checkpoint(data: bytes, path: Path, rng: Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return odd_pickle({"state_dict": {"a": [1, 2]}, "epoch": 3}, rng)
    return damaged_bytes(data, rng)


def _read_checkpoint(folder: Path, path: Path) -> None:
    from stages.weights.released_files import read_checkpoint

    read_checkpoint(path)


def _write_words(folder: Path) -> None:
    words = {"PAD": 0, "UNK": 1, "red": 2, "mug": 3}
    (folder / "words.json").write_text(json.dumps(words))
    (folder / "words.pkl").write_bytes(pickle.dumps(words, 2))
    np.savez(folder / "word_emb.npz", word_emb=np.zeros((4, 3), np.float32))
    (folder / "glove.txt").write_text("red 0.1 0.2 0.3\nmug 0.1 0.2 0.3\n")
    np.concatenate([np.zeros(5, np.float32), np.ones(40, np.float32)]).tofile(folder / "darknet.weights")


def _odd_words(data: bytes, path: Path, rng: Random) -> bytes:
    if path.suffix == ".json":
        return json_text(json.loads(data), rng)
    if path.suffix == ".pkl":
        return odd_pickle(pickle.loads(data), rng)
    return damaged_bytes(data, rng)


def _read_words(folder: Path, path: Path) -> None:
    from stages.weights import darknet, released_files

    if path.suffix == ".npz":
        released_files.read_word_vectors(path)
    elif path.suffix == ".weights":
        darknet.read_floats(path)
    elif path.suffix in (".json", ".pkl"):
        released_files.read_vocabulary(path)


def _write_lists(folder: Path) -> None:
    write_dataset(folder / "keep.h5", ["train"] * 4)
    (folder / "list.csv").write_text(
        "ref_id,ann_id,image_id,image_file,box_x_px,box_y_px,box_width_px,box_height_px,category,has_mask,sentences\n1,1,100,0.jpg,5,10,20,30,thing,yes,thing 0 | thing 1\n"
    )
    (folder / "ids.txt").write_text("1, 2 # three\n3\n")
    (folder / "ids.json").write_text('{"ref_ids": [1, 2.0, "3"]}')
    entry = {
        "image_id": 100,
        "bbox": [5, 10, 20, 30],
        "expressions": ["thing 0", "thing 1"],
        "height": 60,
        "width": 80,
    }
    (folder / "sample.json").write_text(json.dumps({"train": [entry], "val": []}))


def _odd_list(data: bytes, path: Path, rng: Random) -> bytes:
    if path.suffix == ".json":
        return json_text(json.loads(data), rng)
    if rng.random() < 0.5:
        return damaged_bytes(data, rng)
    separator = b"," if path.suffix == ".csv" else b" "
    words = data.split(separator)
    words[rng.randrange(len(words))] = rng.choice(
        (
            b"9" * 5000,
            b"-1",
            b"1.0",
            b"1,0",
            b'"',
            b"nan",
            b"",
            b"x" * 9000,
            "²".encode(),
            b"\0",
            b"\n\n",
            b"1e5",
        )
    )
    return separator.join(words)


def _read_list(folder: Path, path: Path) -> None:
    from stages import split_masks

    config = split_masks.Config(import_list=str(path))
    split_masks.run(config, dataset=folder / "keep.h5", out=folder / f"keep_{path.name}.h5")


def _write_pictures(folder: Path) -> None:
    for ending in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        (folder / f"a{ending}").write_bytes(encoded(ending, scene()))


def _odd_picture(data: bytes, path: Path, rng: Random) -> bytes:
    return damaged_bytes(data, rng)


def _read_picture(folder: Path, path: Path) -> None:
    from stages.data.images import Unreadable, decode_rgb, look_at

    try:
        look_at(path)
        head = look_at(path, decode=True, largest=1 << 28)
    except Unreadable as error:
        raise ArtifactError(str(error)) from error
    assert head.size_hw is not None
    decode_rgb(path.read_bytes(), path.name, head.size_hw)


def targets() -> Iterator[Target]:
    yield SingleFile("pictures", _write_pictures, _odd_picture, _read_picture)
    yield SingleFile("decisions", _write_decisions, odd_json, _read_decisions)
    yield SingleFile("requests", _write_requests, odd_table, _read_requests)
    yield SingleFile("lists", _write_lists, _odd_list, _read_list)
    yield SingleFile("toml", _write_toml, _odd_toml, _read_toml)
    yield SingleFile("weights-exported", _write_exported, _odd_exported, _read_exported)
    yield SingleFile("weights-checkpoint", _write_checkpoints, _odd_checkpoint, _read_checkpoint)
    yield SingleFile("weights-words", _write_words, _odd_words, _read_words)
