"""Stages whose work several processes share: the same files as one process makes, written by the first alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages import evaluate, predict, prepare_data, pseudo_label, refine_masks, split_masks
from stages.artifacts import RunOptions, StageJob
from stages.errors import ArtifactError, UsageError
from stages.inference.picture_groups import picture_groups
from stages.world import ALONE, LostProcessError, World, join
from tests.oracles.processes import in_processes
from tests.oracles.random_models import write_random_model

Run = Callable[[Path, World], Any]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("inputs")
    data, split = folder / "data.h5", folder / "split.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=data)
    split_masks.run(split_masks.Config(ratio=0.3), dataset=data, out=split)
    made = SimpleNamespace(folder=folder, data=data, split=split)
    for name, model in (
        ("points", "box-contour"),
        ("crops", "second look"),
        ("masks", "detector with masks"),
    ):
        path = folder / f"{name}.h5"
        setattr(made, name, write_random_model(path, model))
    return made


def stages_of(inputs: SimpleNamespace) -> dict[str, Run]:
    """Name -> a run of a stage; each takes its output and the processes that share it."""
    start = pseudo_label.Config(start="ellipse")
    few: Any = {"audit_expressions": 7, "batch_images": 3, "device": "cpu", "max_referents": 20}

    def pseudo(model: Path) -> Run:
        return lambda out, world: pseudo_label.run(
            pseudo_label.Config(**few), dataset=inputs.data, split=inputs.split, model=model, out=out,
            options=RunOptions(world=world),
        )  # fmt: skip

    def score(model: Path) -> Run:
        config = evaluate.Config(batch_size=3, max_expressions=20, device="cpu")
        return lambda out, world: evaluate.run(
            config, model=model, dataset=inputs.data, out=out, options=RunOptions(world=world)
        )

    return {
        "pseudo-points": pseudo(inputs.points),
        "pseudo-crops": pseudo(inputs.crops),
        "starts": lambda out, world: pseudo_label.run(
            start, dataset=inputs.data, split=inputs.split, out=out, options=RunOptions(world=world)
        ),
        "evaluation": score(inputs.points),
        "evaluation-crops": score(inputs.crops),
        "evaluation-masks": score(inputs.masks),
        "refined": lambda out, world: refine_masks.run(
            refine_masks.Config(splits=("val",), device="cpu"),
            dataset=inputs.data, out=out, options=RunOptions(world=world),
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def alone(inputs: SimpleNamespace) -> dict[str, str]:
    """The digests that one process comes to."""
    return {name: run(inputs.folder / f"{name}.h5", ALONE).digest for name, run in stages_of(inputs).items()}


@pytest.mark.parametrize("size", [2, 3])
def test_the_digest_does_not_tell_how_many_made_it(
    inputs: SimpleNamespace, alone: dict[str, str], tmp_path: Path, size: int
) -> None:
    """Every process is told the same result, and the first alone writes anything."""

    def work(world: World) -> None:
        for name, run in stages_of(inputs).items():
            folder = tmp_path / f"of-{world.rank}"
            folder.mkdir(exist_ok=True)
            result = run(folder / f"{name}.h5", world)
            assert (result.status, result.digest) == ("written", alone[name]), name
            again = run(folder / f"{name}.h5", world)
            assert again.status == "up-to-date"
            assert again.digest == result.digest

    in_processes(size, work, tmp_path)
    assert sorted(p.name for p in (tmp_path / "of-0").iterdir()) == sorted(f"{name}.h5" for name in alone)
    assert not [p for rank in range(1, size) for p in (tmp_path / f"of-{rank}").iterdir()]


def test_predictions_are_the_same_document(inputs: SimpleNamespace, tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 255, (48, 60 + k, 3), np.uint8))
    config = predict.Config(batch_size=2, device="cpu", segmenter="grabcut")
    asked: Any = {"image": str(tmp_path), "phrase": ["the red star", "a moon"], "model": inputs.points}

    def work(world: World) -> None:
        predict.run(config, out=tmp_path / "of-two.json", options=RunOptions(world=world), **asked)

    predict.run(config, out=tmp_path / "of-one.json", **asked)
    in_processes(2, work, tmp_path)
    one, two = (json_of(tmp_path / f"of-{n}.json") for n in ("one", "two"))
    assert one["predictions"] == two["predictions"]
    assert one["summary"] == two["summary"]
    assert one["fingerprint"] == two["fingerprint"]


def json_of(path: Path) -> Any:
    import json

    return json.loads(path.read_text())


def test_what_processes_tell_each_other(tmp_path: Path) -> None:
    def work(world: World) -> None:
        assert world.share(range(7)) == range(world.rank, 7, 3)
        assert world.gather(world.rank) == ([0, 1, 2] if world.first else [])
        assert world.broadcast(f"from {world.rank}") == "from 0"
        assert world.sum(torch.tensor([1.0, world.rank])).tolist() == [3.0, 3.0]
        with pytest.raises(UsageError, match="only the first knows: 0"):
            world.of_first(lambda: refuse(world.rank))

    in_processes(3, work, tmp_path)


def refuse(rank: int) -> None:
    raise UsageError(f"only the first knows: {rank}")


def test_who_is_left_when_one_dies_does_not_wait(tmp_path: Path) -> None:
    """The last one leaves without a word; the others end, and one of them speaks (or both: the first keeps the list)."""
    import os

    def work(world: World) -> None:
        world.gather(0)
        if world.rank == 2:
            os._exit(0)
        with pytest.raises(LostProcessError, match="has ended"):
            talk(world)
        if world.speaks():
            (tmp_path / f"spoke-{world.rank}").touch()
        os._exit(0)

    in_processes(3, work, tmp_path)
    assert list(tmp_path.glob("spoke-*"))


def test_who_never_came_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed on another machine before it had met the others; torchrun's own store is there already."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, 1, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setattr("stages.world._LONGEST_START", timedelta(seconds=1))
    with pytest.raises(LostProcessError, match="has ended"):
        join(0, 2, 0, 1)
    assert not torch.distributed.is_initialized()


def test_each_knows_how_many_share_its_machine(tmp_path: Path) -> None:
    """Which loaders divide the cores by, however many others work elsewhere."""

    def work(world: World) -> None:
        assert (world.size, world.on_this_machine) == (2, 2)

    in_processes(2, work, tmp_path)


def talk(world: World) -> None:
    while True:
        world.gather(0)
        world.broadcast(0)


def test_others_must_be_given_the_same(inputs: SimpleNamespace, tmp_path: Path) -> None:
    def work(world: World) -> None:
        config = evaluate.Config(max_expressions=3 + world.rank, device="cpu")
        with pytest.raises(ArtifactError, match="process 1 of 2 was given other inputs"):
            evaluate.run(
                config, model=inputs.points, dataset=inputs.data, out=tmp_path / "e.h5",
                options=RunOptions(world=world),
            )  # fmt: skip

    in_processes(2, work, tmp_path)


def test_one_gpu_is_not_for_several_processes(inputs: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda:1 is one GPU, and there are 2 processes"):
        StageJob(
            stage="s", version=1, config=evaluate.Config(device="cuda:1"), kind="evaluation", out=tmp_path / "o",
            options=dataclasses.replace(RunOptions(), world=World(0, 2)),
        )  # fmt: skip


def test_groups_are_whole_pictures_in_their_order() -> None:
    images = np.array([4, 1, 1, 9, 4, 2])
    groups = [rows.tolist() for rows in picture_groups(images, 2)]
    assert groups == [[1, 2, 5], [0, 4, 3]]
    assert picture_groups(images[:0], 2) == []


def test_the_command_line_says_who_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqres_cli.processes import world_of_environment

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert world_of_environment(["evaluate"]) is ALONE
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert world_of_environment(["doctor"]) is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="verify is not for several processes, and this is one of 2"):
        world_of_environment(["verify", "rec.h5"])
    with pytest.raises(UsageError, match="RANK is ''"):
        world_of_environment(["evaluate"])
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UsageError, match="process 0 of 2 does not find the others"):
        world_of_environment(["evaluate"])


def test_torchrun_runs_the_command_and_prints_once(inputs: SimpleNamespace, tmp_path: Path) -> None:
    """One JSON object, from the first process; an error is told once, too."""
    import json
    import subprocess
    import sys

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "seqres_cli"]
    options = ["--dataset", str(inputs.data), "--out", str(tmp_path / "e.h5"), "--device", "cpu", "--json"]
    call = [*torchrun, "evaluate", "--splits", "val", *options]
    done = subprocess.run([*call, "--model", str(inputs.points)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "written"
    assert done.stderr.count("evaluate val: 100 % (") == 1
    missing = subprocess.run([*call, "--model", "none.h5"], capture_output=True, text=True, timeout=120)
    assert missing.returncode != 0
    assert missing.stderr.count("error: no such file: none.h5") == 1
    assert json.loads(missing.stdout)["error"]["exit_code"] == 3
