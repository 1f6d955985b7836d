"""Pictures decoded by threads while a GPU works on those before: one thread decodes a photograph in longer than a GPU
takes to encode it (docs/BENCHMARKS.md, "On a GPU"). On a CPU the cores are the model's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from stages.world import usable_cores

Load = Callable[[int], NDArray[np.uint8]]  # number of a picture -> (H, W, 3) RGB
MOST_THREADS = 8


def decoding_threads(device: torch.device) -> int:
    """How many decode beside the model; 0 on a CPU."""
    return 0 if device.type == "cpu" else min(MOST_THREADS, usable_cores())


@contextmanager
def pictures_ahead(load: Load, order: Sequence[int], *, kept: int, threads: int) -> Iterator[Load]:
    """`load` with the last `kept` pictures at hand, and two for each thread begun before they are asked for.

    Args:
        load: may be called by several threads once the first call has returned.
        order: the pictures in the order in which they will be asked for; one that is asked for out of turn is loaded then.
    """
    begun: dict[int, Future[NDArray[np.uint8]]] = {}
    coming = iter(dict.fromkeys(order))
    pool = ThreadPoolExecutor(threads, "picture") if threads else None

    @functools.lru_cache(kept)
    def picture(index: int) -> NDArray[np.uint8]:
        future = begun.pop(index, None)
        # the first is loaded here: it opens the file that the threads share
        found = load(index) if future is None else future.result()
        while pool is not None and len(begun) < 2 * threads and (after := next(coming, None)) is not None:
            if after != index:
                begun[after] = pool.submit(load, after)
        return found

    try:
        yield picture
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
