"""Several processes share the items of every step; what they learn is what one process learns."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import train_rec, train_res
from stages.artifacts import RunOptions, open_artifact
from stages.data.crop_refinement import CropRefinement
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.errors import SeqresError
from stages.models.presets import PRESETS
from stages.training import loop
from stages.training.loader import ContourTable, StepDataset
from stages.training.plan import StepPlan
from stages.training.sharing import SharedBatchNorm, share_batch_norm, sum_gradients
from stages.training.targets import SlotWeights
from stages.world import ALONE, LostProcessError, World
from tests.oracles.processes import in_processes
from tests.oracles.random_models import CONFIGS, TINY, WORDS
from tests.unit.training.conftest import FAST

SHAKEN = Augmentation(jitter_min=0.4, jitter_max=1.6, mirror=0.5, colour=0.2)


def steps_of(data: ReferringDataset, name: str, world: World) -> StepDataset:
    referents = np.arange(len(data.boxes_xyxy))
    rings = {int(r): ellipse(data.boxes_xyxy[r]) for r in referents[::2]}
    table = ContourTable.of_contours(len(referents), rings, {})
    codec = WordCodec.from_sentences([WORDS], TINY.text.max_words)
    return StepDataset(
        data, codec, CONFIGS[name], table, SHAKEN, SlotWeights(), 0, CropRefinement(), world
    )  # fmt: skip


def ellipse(box: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return (centre + half * np.stack([np.sin(angle), -np.cos(angle)], 1)).astype(np.float32)


@pytest.mark.parametrize("name", ["box-contour", "second look with marks", "detector with masks"])
def test_shares_of_a_step_are_its_rows(tiny_dataset: Path, name: str) -> None:
    """Item p goes to process p mod size, on the canvas of all, with the random numbers of its position."""
    data = ReferringDataset.open(tiny_dataset)
    plan = StepPlan(data, np.arange(60), images=5, per_image=2, seed=3)
    for entry in plan.epoch(1)[:3]:
        whole = steps_of(data, name, ALONE)[entry]
        for size in (2, 3):
            parts = [steps_of(data, name, World(rank, size))[entry] for rank in range(size)]
            assert all(part.images.shape[1:] == whole.images.shape[1:] for part in parts)
            for field in ("images", "sizes_hw", "words", "targets", "slot_weights", "boxes", "masks"):
                ours = [getattr(part, field) for part in parts]
                if field == "words":  # each process pads to the longest expression of its own
                    longest = whole.words.shape[1]
                    assert max(part.shape[1] for part in ours) == longest
                    ours = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in ours]
                assert sorted_rows(torch.cat(ours)) == sorted_rows(getattr(whole, field)), field
            counts = [part.slot_count for part in parts if part.slot_count is not None]
            assert whole.slot_count is not None
            assert torch.stack(counts).sum() == pytest.approx(float(whole.slot_count))


def sorted_rows(values: torch.Tensor) -> list[bytes]:
    return sorted(row.contiguous().numpy().tobytes() for row in values)


def test_a_step_of_fewer_items_than_processes(tiny_dataset: Path) -> None:
    """Everybody does all of it: sums and counts grow alike."""
    data = ReferringDataset.open(tiny_dataset)
    entry = StepPlan(data, np.arange(4), images=1, per_image=2, seed=3).epoch(0)[0]
    whole, part = (steps_of(data, "box", world)[entry] for world in (ALONE, World(2, 3)))
    assert torch.equal(whole.images, part.images)
    assert torch.equal(whole.targets, part.targets)


@pytest.fixture
def plain_descent() -> Any:
    """No dropout, whose random numbers are each process's own; and no Adam, which makes much of gradients near 0."""

    def descent(model: torch.nn.Module, **_: Any) -> torch.optim.Optimizer:
        group = {"params": [p for p in model.parameters() if p.requires_grad], "lr": 0.1, "peak": 0.1}
        return torch.optim.SGD([group], lr=0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build_optimiser", descent)
        for name in ("refshapes-small", "refshapes-small-mdetr"):
            patch.setitem(PRESETS, name, PRESETS[name].replace(dropout=0.0))
        yield


TRAINED = {
    "rec": {"frozen": "none"},
    "detector": {"model": "refshapes-small-mdetr", "frozen": "all"},
    "frozen": {"frozen": "all", "auxiliary_mask": 2},
}  # fmt: skip


def rec_config(name: str, **more: Any) -> train_rec.Config:
    values: dict[str, Any] = {
        **FAST,
        "batch_images": 5,
        "epochs": 1,
        "steps_per_epoch": 4,
        **TRAINED[name],
        **more,
    }
    return train_rec.Config(**values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rec", "detector"])
def test_training_by_two_is_training_by_one(
    plain_descent: None, tiny_dataset: Path, tmp_path: Path, name: str
) -> None:
    """Also after a second step (more would amplify the rounding of some processors); and the first alone writes."""
    config = rec_config(name, steps_per_epoch=2)
    alone = train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "one.h5")

    def work(world: World) -> None:
        folder = tmp_path / f"of-{world.rank}"
        folder.mkdir()
        out, options = folder / "rec.h5", RunOptions(world=world)
        result = train_rec.run(config, dataset=tiny_dataset, out=out, options=options)
        assert result.digest is not None
        assert result.summary["final"]["loss"] == pytest.approx(alone.summary["final"]["loss"], rel=1e-6)

    in_processes(2, work, tmp_path)
    assert [p.name for p in (tmp_path / "of-0").iterdir()] == ["rec.h5"]
    assert not list((tmp_path / "of-1").iterdir())
    with open_artifact(tmp_path / "one.h5") as one, open_artifact(tmp_path / "of-0" / "rec.h5") as two:
        assert one.fingerprint == two.fingerprint
        for name in one.names("weights/"):
            assert np.allclose(one[name], two[name], rtol=1e-5, atol=2e-6), name  # of updates up to 2e-3


@pytest.mark.slow
def test_contours_by_three(plain_descent: None, tiny_dataset: Path, tiny_split: Path, tmp_path: Path) -> None:
    train_rec.run(rec_config("frozen"), dataset=tiny_dataset, out=tmp_path / "rec.h5")
    values: dict[str, Any] = {**FAST, "batch_images": 4, "epochs": 1, "steps_per_epoch": 2, "zoom": 64}
    config = train_res.Config(**values)
    inputs: Any = {"dataset": tiny_dataset, "split": tiny_split, "rec": tmp_path / "rec.h5"}
    alone = train_res.run(config, out=tmp_path / "one.h5", **inputs)

    def work(world: World) -> None:
        result = train_res.run(config, out=tmp_path / "three.h5", options=RunOptions(world=world), **inputs)
        assert result.summary["final"]["loss"] == pytest.approx(alone.summary["final"]["loss"], rel=1e-6)

    in_processes(3, work, tmp_path)


@pytest.mark.slow
def test_a_run_that_lost_a_process_is_resumed_exactly(tiny_dataset: Path, tmp_path: Path) -> None:
    """With dropout: each process goes on with its own random numbers."""
    config = rec_config("frozen", save_every=1)

    def whole(world: World) -> None:
        train_rec.run(
            config, dataset=tiny_dataset, out=tmp_path / "whole.h5", options=RunOptions(world=world)
        )

    def killed(world: World) -> None:
        step, done = loop.Trainer._step, 0

        def dies(self: loop.Trainer, batch: Any) -> float:
            nonlocal done
            done += 1
            if done == 3 and world.rank == 1:
                os._exit(0)
            return step(self, batch)

        loop.Trainer._step = dies  # type: ignore[method-assign]
        with pytest.raises(LostProcessError, match="another process of this run has ended"):
            train_rec.run(
                config, dataset=tiny_dataset, out=tmp_path / "p.h5", options=RunOptions(world=world)
            )
        os._exit(0)

    def resumed(world: World) -> None:
        train_rec.run(
            config, dataset=tiny_dataset, out=tmp_path / "p.h5", resume=True, options=RunOptions(world=world)
        )

    in_processes(2, whole, tmp_path)
    in_processes(2, killed, tmp_path)
    assert not (tmp_path / "p.h5").exists()
    in_processes(2, resumed, tmp_path)
    with open_artifact(tmp_path / "whole.h5") as one, open_artifact(tmp_path / "p.h5") as two:
        assert one.digest == two.digest


def test_errors_of_the_first_are_everybodys(tiny_dataset: Path, tmp_path: Path) -> None:
    def work(world: World) -> None:
        with pytest.raises(SeqresError, match="nothing to resume"):
            train_rec.run(
                rec_config("frozen"), dataset=tiny_dataset, out=tmp_path / "r.h5", resume=True,
                options=RunOptions(world=world),
            )  # fmt: skip

    in_processes(2, work, tmp_path)


def test_batch_norm_sees_the_images_of_all(tmp_path: Path) -> None:
    """Output, gradients and running statistics, with unequal shares."""
    torch.manual_seed(0)
    x, wanted = torch.randn(5, 3, 4, 4) * 3 + 10, torch.randn(5, 3, 4, 4)
    one = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))
    start = copy.deepcopy(one)
    ((one(x) - wanted) ** 2).sum().backward()

    def work(world: World) -> None:
        model = copy.deepcopy(start)
        share_batch_norm(model, world)
        assert isinstance(model[1], SharedBatchNorm)
        assert list(model.state_dict()) == list(start.state_dict())
        mine = slice(0, 2) if world.first else slice(2, 5)
        ((model(x[mine]) - wanted[mine]) ** 2).sum().backward()
        sum_gradients(model, world)
        for ours, theirs in zip(model.parameters(), one.parameters(), strict=True):
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
        for name, value in one.state_dict().items():
            assert torch.allclose(model.state_dict()[name].float(), value.float(), atol=1e-5), name
        copy.deepcopy(model)

    in_processes(2, work, tmp_path)


def test_what_nobody_used_keeps_no_gradient(tmp_path: Path) -> None:
    """So that weight decay leaves it alone, as with one process; what one used, all have."""

    def work(world: World) -> None:
        parts = {name: torch.nn.Linear(1, 1, bias=False) for name in ("all", "one", "none")}
        used = ["all", "one"] if world.first else ["all"]
        torch.stack([parts[name](torch.ones(1)) for name in used]).sum().backward()
        sum_gradients(torch.nn.ModuleList(parts.values()), world)
        found = {n: None if m.weight.grad is None else m.weight.grad.item() for n, m in parts.items()}
        assert found == {"all": 2.0, "one": 1.0, "none": None}

    in_processes(2, work, tmp_path)


GIVEN = (
    "frozen",
    "batch_images",
    "epochs",
    "steps_per_epoch",
    "save_every",
    "validation_expressions",
    "device",
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_torchrun_ends_when_a_process_is_killed(tiny_dataset: Path, tmp_path: Path) -> None:
    """One message, nothing half written, and a state with which even one process goes on."""
    out = tmp_path / "rec.h5"
    config = train_rec.Config(
        frozen="all",
        batch_images=4,
        epochs=1,
        steps_per_epoch=15,
        save_every=1,
        validation_expressions=4,
        device="cpu",
    )
    given = [
        f"--{n.replace('_', '-')}={getattr(config, n)}" for n in config.__dataclass_fields__ if n in GIVEN
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "seqres_cli"]
    call = [*torchrun, "train-rec", *given, "--dataset", str(tiny_dataset), "--out", str(out)]
    run = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        second = wait_for(lambda: child_of_rank(run.pid, 1))
        wait_for(lambda: (tmp_path / ".rec.h5.resume").exists())
        os.kill(second, signal.SIGKILL)
        printed, told = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 1
    assert printed == ""
    noticed = told.count("error: another process of this run has ended, so this one cannot go on")
    ended = told.count("error: interrupted\n")  # torchrun may be faster with its SIGTERM
    assert noticed + ended == 1, told
    assert not ended or "if nobody ended them all, another has ended before" in told
    assert "the same command with --resume goes on from there" in told
    assert not out.exists()
    alone = train_rec.run(config, dataset=tiny_dataset, out=out, resume=True)
    assert alone.status == "written"
    assert [path.name for path in tmp_path.iterdir()] == ["rec.h5"]


def wait_for(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + 90
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def child_of_rank(parent: int, rank: int) -> int | None:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_child = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
    return None
