"""Choosing few things that stand for many: each next one is drawn with a probability that grows with the squared
distance to those already chosen (the seeding of k-means++). Unlike the farthest point, such a draw is rarely an
outlier, and the order is nested: the first n of a longer order are the shorter one.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from stages.metrics.ranks import places_of
from stages.reporter import Reporter, SilentReporter


def unit_features(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, D) features without what they have in common, each of length 1 (0 for one that is just the mean).

    So a large box, whose mean over many cells is short, counts no less than a small one.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 1e-9, length, 1), np.float32)


def spread_order(
    features: NDArray[np.float32], count: int, *, seed: int, reporter: Reporter | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first `count` rows of the order, and how far each row of `features` (N, D) is from the nearest of them.

    Time is count x N x D, memory a few numbers a row. Draws follow from (seed, step) by a hash, so no library version
    changes them. Ends early when every row coincides with a chosen one.

    Returns:
        order (n,) int64 with n <= count, distance (N,) float64.
    """
    rows = len(features)
    norms = np.einsum("nd,nd->n", features, features, dtype=np.float64)
    nearest = np.full(rows, np.inf)  # squared distance to the nearest chosen row
    order: list[int] = []
    with (reporter or SilentReporter()).progress("spread", count, unit="choice") as task:
        for step in range(min(count, rows)):
            weight = np.cumsum(nearest) if step else np.arange(1.0, rows + 1)
            if weight[-1] <= 0:
                break
            pick = min(int(np.searchsorted(weight, _draw(seed, step) * weight[-1], side="right")), rows - 1)
            order.append(pick)
            squared = norms + norms[pick] - 2.0 * (features @ features[pick])
            squared[squared < 1e-6] = 0.0  # rounding of float32: these coincide
            np.minimum(nearest, squared, out=nearest)
            nearest[pick] = 0.0
            task.advance()
    return np.array(order, np.int64), np.sqrt(nearest)


def spread_first(
    features: NDArray[np.float32],
    unit: NDArray[np.integer],
    by_chance: NDArray[np.int64],
    count: int,
    *,
    seed: int,
    reporter: Reporter | None = None,
) -> tuple[NDArray[np.int64], float]:
    """Units (images, or referents themselves) in the order of `spread_order`, the others behind them by chance.

    Args:
        features: (K, D) of the members; a unit has the mean of its members.
        unit: (K,) in [0, U).
        by_chance: (U,) place of each unit where nothing is known about it.
        count: how many units are ordered by their features.

    Returns:
        place (U,) int64; mean distance of a unit to the nearest of the first `count`.
    """
    pooled = np.zeros((len(by_chance), features.shape[1]))
    np.add.at(pooled, unit, features)
    pooled /= np.bincount(unit)[:, None]
    first, distance = spread_order(unit_features(pooled), count, seed=seed, reporter=reporter)
    rest = np.argsort(by_chance)  # also doubles of those in front
    order = np.concatenate([first, rest[~np.isin(rest, first)]])
    return places_of(order), float(distance.mean())


def most_first(
    values: NDArray[np.floating], unit: NDArray[np.integer], by_chance: NDArray[np.int64]
) -> NDArray[np.int64]:  # fmt: skip
    """(U,) place of each unit by the mean `values` (K,) of its members, largest first, equal ones by chance."""
    return places_of(np.lexsort((by_chance, -np.bincount(unit, values) / np.bincount(unit))))


def _draw(seed: int, step: int) -> float:
    """A number in [0, 1)."""
    digest = hashlib.sha256(f"{seed}/draw/{step}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
