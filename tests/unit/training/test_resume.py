"""A run that was interrupted goes on bit by bit as if it had not been, dropout and workers included."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from seqres_cli.ending import ended_like_ctrl_c
from stages import train_rec
from stages.artifacts import open_artifact
from stages.inference import devices
from stages.inference.devices import random_state, restore_random_state
from stages.models.presets import PRESETS
from stages.reporter import SilentReporter
from stages.training import loop
from stages.training.interruption import uninterrupted
from stages.training.loader import BatchLoader
from tests.unit.training.conftest import FAST


def final_weights(path: Path) -> dict[str, bytes]:
    with open_artifact(path, "rec_model") as a:
        return {name: a[name].tobytes() for group in ("weights/", "ema/") for name in a.names(group)}


@pytest.fixture
def foreground() -> Iterator[None]:
    """Ctrl-C as a foreground run has it; one in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop_after", [2, 3])  # inside an epoch, and between two
def test_resume_is_exact_with_dropout(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, stop_after: int
) -> None:
    name = "refshapes-small"
    monkeypatch.setitem(PRESETS, name, PRESETS[name].replace(dropout=0.1))
    values: dict[str, Any] = {**FAST, "model": name, "save_every": 1, "workers": workers, "validate_every": 2}
    config = train_rec.Config(**values)
    train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "whole.h5")
    step, done = loop.Trainer._step, 0

    def interrupted(self: loop.Trainer, batch: Any) -> float:
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "parts.h5")
    torch.manual_seed(4711)
    train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "parts.h5", resume=True)
    assert final_weights(tmp_path / "parts.h5") == final_weights(tmp_path / "whole.h5")


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_asks_to_end_waits_for_the_step_and_is_saved(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Nothing else saves a state here: --save-every is longer than the training."""
    config = train_rec.Config(**{**FAST, "save_every": 100})
    train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "whole.h5")
    step, out, words = loop.Trainer._step, tmp_path / "parts.h5", [""]

    def asked(self: loop.Trainer, batch: Any) -> float:
        if self.progress.step == 1:
            os.kill(os.getpid(), number)
        return step(self, batch)

    with monkeypatch.context() as patch, ended_like_ctrl_c():
        patch.setattr(loop.Trainer, "_step", asked)
        patch.setattr(SilentReporter, "warn", lambda self, text: words.append(text))
        with pytest.raises(KeyboardInterrupt):
            train_rec.run(config, dataset=tiny_dataset, out=out)
    assert words[-1] == "interrupted in epoch 1, step 2; saved: epoch 1, step 2"
    train_rec.run(config, dataset=tiny_dataset, out=out, resume=True)
    assert final_weights(out) == final_weights(tmp_path / "whole.h5")


@pytest.mark.usefixtures("foreground")
def test_asked_twice_ends_inside_the_step() -> None:
    reached = []

    def step() -> None:
        with uninterrupted():
            for number in (1, 2):
                os.kill(os.getpid(), signal.SIGINT)
                reached.append(number)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_kill_between_two_rounds_loses_nothing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """`before` and `after` the state of the round before is removed, that between the rounds being there."""
    config = train_rec.Config(**{**FAST, "epochs": 1, "retrain_rounds": 1, "save_every": 100})
    train_rec.run(config, dataset=tiny_dataset, out=tmp_path / "whole.h5")
    forget, out = loop.Trainer.forget, tmp_path / "parts.h5"

    def killed(self: loop.Trainer) -> None:
        if point == "after":
            forget(self)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "forget", killed)
        with pytest.raises(SystemExit):
            train_rec.run(config, dataset=tiny_dataset, out=out)
    train_rec.run(config, dataset=tiny_dataset, out=out, resume=True)
    assert final_weights(out) == final_weights(tmp_path / "whole.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.h5", "whole.h5"]


class NoSteps(torch.utils.data.Dataset[int]):
    seed = 3

    def __getitem__(self, entry: Any) -> int:
        return int(entry)


def test_starting_the_loader_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    assert list(BatchLoader(NoSteps(), 0).epoch([4, 5])) == [4, 5]  # type: ignore[arg-type, comparison-overlap, list-item]
    assert torch.equal(torch.get_rng_state(), before)


class WhoAmI(NoSteps):
    def __getitem__(self, entry: Any) -> Any:
        return entry, os.getpid(), cv2.getNumThreads()


def test_a_worker_stays_for_the_next_epoch_and_keeps_to_one_thread() -> None:
    loader = BatchLoader(WhoAmI(), 1)  # type: ignore[arg-type]
    epochs: Any = [list(loader.epoch(entries)) for entries in ([4, 5], [6])]  # type: ignore[list-item]
    assert [entry for epoch in epochs for entry, _, _ in epoch] == [4, 5, 6]
    (process,) = {process for epoch in epochs for _, process, _ in epoch}
    assert process != os.getpid() and {n for epoch in epochs for _, _, n in epoch} == {1}


def test_the_generators_of_all_devices_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for two CUDA devices and an MPS device; the state may come back where there is one CUDA device only."""
    cuda = {0: torch.tensor([7]), 1: torch.tensor([8])}
    mps = [torch.tensor([9])]
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: len(cuda))
    monkeypatch.setattr(devices.torch.cuda, "get_rng_state_all", lambda: list(cuda.values()))
    monkeypatch.setattr(devices.torch.cuda, "set_rng_state", lambda state, index: cuda.update({index: state}))
    monkeypatch.setattr(devices.torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.mps, "get_rng_state", lambda: mps[-1])
    monkeypatch.setattr(devices.torch.mps, "set_rng_state", mps.append)
    kept = random_state()
    drawn = torch.rand(3)
    cuda[0], cuda[1] = torch.tensor([0]), torch.tensor([0])
    restore_random_state(kept)
    assert torch.equal(torch.rand(3), drawn)
    assert [int(v) for v in cuda.values()] == [7, 8] and len(mps) == 2 and int(mps[-1]) == 9
    del cuda[1]
    restore_random_state(kept)
    assert list(cuda) == [0]
