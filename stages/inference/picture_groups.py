"""Which expressions are computed together: those about so many pictures, whoever computes them. Imports no torch."""

import numpy as np
from numpy.typing import NDArray

from stages.shards import Shard


def picture_groups(images: NDArray[np.int64], batch_images: int) -> list[NDArray[np.int64]]:
    """Rows in groups of so many pictures, in the order of the pictures; images (S,) is each row's picture.

    What is computed together depends on the group alone, so that processes and shards can share groups and answer alike.
    """
    order = np.argsort(images, kind="stable")
    number = np.cumsum(np.diff(images[order], prepend=-1) != 0) - 1
    cuts = np.flatnonzero(np.diff(number // batch_images, prepend=0))
    return np.split(order, cuts) if len(order) else []


def rows_of_shard(images: NDArray[np.int64], batch_images: int, shard: Shard | None) -> NDArray[np.int64]:
    """Rows of a shard (all of none), rising: whole groups, so that they are computed as without shards."""
    if shard is None:
        return np.arange(len(images))
    return np.sort(
        np.concatenate([*shard.share(picture_groups(images, batch_images)), np.zeros(0, np.int64)])
    )
