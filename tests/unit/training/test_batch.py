"""A batch moves and pins all of its tensors; losses of parts add up to the loss of the whole."""

from __future__ import annotations

import dataclasses
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from stages.models.losses import LossSum, token_sums
from stages.training.batch import ON_HOST, Batch
from stages.training.loader import MOST_WORKERS, used_workers
from stages.world import usable_cores


def a_batch() -> Batch:
    ones = np.ones((2, 3), np.float32)
    arrays: dict[str, Any] = {f.name: ones for f in dataclasses.fields(Batch)}
    return Batch.of_arrays(**{**arrays, "slot_count": np.asarray(np.float32(4))})


def moved(batch: Batch) -> set[str]:
    return {name for name, part in vars(batch).items() if part is not None and part.is_meta}


def test_every_tensor_is_pinned_and_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(id(self)) or self * 2)  # type: ignore[func-returns-value]
    batch = a_batch()
    assert batch.slot_count is not None and batch.slot_count.shape == ()
    made = batch.pin_memory()
    assert pinned == [id(getattr(batch, f.name)) for f in dataclasses.fields(Batch)]
    assert all(getattr(made, f.name).max() in (2, 8) for f in dataclasses.fields(Batch))
    meta = dataclasses.replace(batch, slot_count=None).to(torch.device("meta"))
    assert meta.slot_count is None
    on_host = {f.name for f in dataclasses.fields(Batch) if getattr(meta, f.name) is not None} - moved(meta)
    assert on_host == set(ON_HOST), "what a step asks for first"


def test_a_worker_puts_only_large_tensors_into_shared_memory() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (2, 160, 128, 3), np.uint8)
    batch = dataclasses.replace(a_batch(), images=torch.from_numpy(canvas.transpose(0, 3, 1, 2)))
    sent: list[torch.Tensor] = []

    class Pickler(pickle.Pickler):
        def reducer_override(self, part: object) -> Any:
            sent.extend([part] if isinstance(part, torch.Tensor) else [])
            return NotImplemented

    Pickler(stream := io.BytesIO()).dump(dataclasses.replace(batch, slot_count=None))
    assert [id(part) for part in sent] == [id(batch.images)]
    received = pickle.loads(stream.getvalue())
    assert received.slot_count is None and received.images.stride() == batch.images.stride()
    for name in ("images", "targets", "word_mask"):
        assert torch.equal(getattr(received, name), getattr(batch, name)), name
    received.boxes.add_(1)  # a tensor of its own
    scalar = pickle.loads(pickle.dumps(batch)).slot_count
    assert torch.equal(scalar, torch.tensor(4.0))


def test_the_sums_of_two_halves_are_the_sum_of_the_whole() -> None:
    g = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(6, 5, 9, generator=g), torch.randint(9, (6, 5), generator=g)
    weights = torch.rand(6, 5, generator=g)
    first, second = (token_sums(logits[i], targets[i], weights[i]) for i in (slice(1), slice(1, 6)))
    together = LossSum(first.total + second.total, first.weight + second.weight)
    torch.testing.assert_close(together.mean(), token_sums(logits, targets, weights).mean())
    assert not torch.isclose((first.mean() + second.mean()) / 2, together.mean()), "means of parts are not"


def test_terms_of_one_count_have_weights_of_their_own() -> None:
    both = LossSum(torch.tensor([3.0, 5.0]), torch.tensor(2.0), torch.tensor([1.0, 10.0]))
    assert both.mean() == 3 / 2 + 10 * 5 / 2
    assert LossSum(torch.tensor(0.0), torch.tensor(0.0)).mean() == 0


def test_a_gpu_gets_workers_and_a_cpu_none() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert used_workers(None, cpu, 1) == 0 and used_workers(2, cpu, 1) == 2
    assert used_workers(0, gpu, 1) == 0 and used_workers(3, gpu, 1) == 3
    assert used_workers(None, gpu, 1) == min(MOST_WORKERS, usable_cores())
    assert used_workers(None, gpu, 1000) == 1
