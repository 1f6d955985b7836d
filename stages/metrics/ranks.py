"""Orders that a seed decides, the same on every machine and with every version of a library; none is drawn from a
random generator.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ranks_by_seed(
    ids: NDArray[np.integer], seed: int, *, first: Sequence[Any] | None = None
) -> NDArray[np.int64]:  # fmt: skip
    """(N,) int64 rank of each id in an order that follows from (seed, id) alone, so it is kept when other ids leave.

    first: (N,) what is sorted by before the seed is asked, smallest first.
    """
    by_seed = [(hashlib.sha256(f"{seed}/{i}".encode()).digest(), i) for i in ids.tolist()]
    keys: list[Any] = by_seed if first is None else list(zip(first, by_seed, strict=True))
    return places_of(np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64))


def places_of(order: NDArray[np.integer]) -> NDArray[np.int64]:
    """(N,) the place of each thing in an order (N,) of all of them: the inverse permutation."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place
