"""Several processes that do one stage together, and what they tell each other; one process is a world of its own.

Work is split by number: item i belongs to process i mod size. The first process (rank 0) decides, writes and reports.
torch.distributed carries the messages (gloo between CPUs, NCCL between GPUs), because torch is there already.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from stages.errors import SeqresError, UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

Value = TypeVar("Value")
_LONGEST_WAIT = timedelta(days=7)  # for the first process, which measures and writes while the others wait
_LONGEST_START = timedelta(minutes=10)


def usable_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LostProcessError(SeqresError):
    """Another process of the run ended, so that this one cannot go on."""


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, `on_this_machine` of them here; this class is the only process there is, and has nobody to wait for."""

    rank: int = 0
    size: int = 1
    on_this_machine: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Value]) -> Sequence[Value]:
        """What of the items belongs to this process."""
        return items[self.rank :: self.size]

    def gather(self, value: Value) -> list[Value]:
        """In the first process everybody's value, in the order of ranks; nothing in the others."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """The first process's value, in all."""
        return value

    def sum(self, values: Tensor) -> Tensor:
        """Sum of everybody's tensors of one shape; no gradient flows through it."""
        return values

    def of_first(self, work: Callable[[], Value]) -> Value:
        """What `work` returns or raises in the first process, where alone it is done, in all of them."""
        return work()

    def speaks(self) -> bool:
        """Whether this process, which ends with an error, is the first to do so: the others need not repeat it."""
        return True

    def leave(self) -> None:
        """Part from the others, when all is done. After an error a process just ends, which ends the others."""


ALONE = World()


@dataclass(frozen=True)
class _Raised:
    error: SeqresError


@dataclass(frozen=True)
class JoinedWorld(World):
    """A process of a group of torch.distributed; see `join`. Each method is called by all processes, in the same order.

    All but `speaks` raise LostProcessError when another process has ended.
    """

    store: Store | None = None
    own_gpu: bool = False

    def gather(self, value: Value) -> list[Value]:
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.size if self.first else None
        with _together():
            dist.gather_object(value, found)
        return found or []

    def broadcast(self, value: Value) -> Value:
        import torch.distributed as dist

        box = [value]
        with _together():
            dist.broadcast_object_list(box)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        import torch.distributed as dist

        direct = values.device.type == "cpu" or (values.is_cuda and self.own_gpu)
        total = values.detach().clone() if direct else values.detach().cpu()
        with _together():
            dist.all_reduce(total)
        return total.to(values.device)

    def of_first(self, work: Callable[[], Value]) -> Value:
        value: Any = None
        if self.first:
            try:
                value = work()
            except SeqresError as error:
                value = _Raised(error)
        value = self.broadcast(value)
        if isinstance(value, _Raised):
            raise value.error
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> JoinedWorld:
        """Whatever holds it may be copied; there is one group."""
        return self

    def speaks(self) -> bool:
        try:
            return self.store is None or self.store.add("ended", 1) == 1
        except RuntimeError:  # it went with the process that kept it
            return True

    def leave(self) -> None:
        import torch.distributed as dist

        dist.destroy_process_group()


def join(rank: int, size: int, local_rank: int, local_size: int) -> World:
    """Meet the other processes at MASTER_ADDR and MASTER_PORT, which `torchrun` sets.

    Where there is a GPU for each of the `local_size` processes of this machine, that of `local_rank` becomes "cuda"; where
    there are fewer, they share them.

    Raises:
        UsageError: no such meeting place. LostProcessError: the others did not come.
    """
    import torch
    import torch.distributed as dist

    gpus = torch.cuda.device_count()
    own_gpu = local_size <= gpus
    if gpus:
        torch.cuda.set_device(local_rank % gpus)
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=_LONGEST_START))
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"process {rank} of {size} does not find the others",
            facts=[str(error).splitlines()[0]],
            hint="start the processes with: torchrun --nproc-per-node N -m seqres_cli …",
        ) from error
    with _together():
        # a process of another machine that ended before this point would be waited for as long as one that works
        store.set(f"here {rank}", "")
        store.wait([f"here {other}" for other in range(size)], _LONGEST_START)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if own_gpu else "gloo",
            store=dist.PrefixStore("seqres", store), rank=rank, world_size=size, timeout=_LONGEST_WAIT,
        )  # fmt: skip
    return JoinedWorld(rank, size, local_size, store, own_gpu)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            "another process of this run has ended, so this one cannot go on",
            facts=[str(error).splitlines()[0][:200]],
            hint="look above for its message (none: it was killed); the same command starts again: a training with --resume, refine-masks where it was",
        ) from error
