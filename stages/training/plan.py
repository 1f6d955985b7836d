"""Which images and sentences each step sees; a plan depends only on (seed, epoch).

A step holds a few images, each with several of its sentences, because an image is encoded once for all of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset

Item = tuple[int, NDArray[np.int64]]  # an image and the sentences of it that a step uses
Entry = tuple[int, int, list[Item]]  # epoch, step and items of one step


class _Pool:
    """Sentences grouped by image."""

    def __init__(self, dataset: ReferringDataset, sentences: NDArray[np.int64], per_image: int) -> None:
        owner = dataset.referent_image[dataset.sentence_referent[sentences]]
        order = np.argsort(owner, kind="stable")
        self._sentences, self._per_image = sentences[order], per_image
        self._images, starts = np.unique(owner[order], return_index=True)
        self._bounds = np.append(starts, len(order))

    def __len__(self) -> int:
        return len(self._images)

    def draw(self, seed: int, epoch: int, n: int) -> list[Item]:
        """The n images of an epoch, each with some of its sentences.

        All epochs together walk through one permutation of the images after another, so that every image comes once
        before any comes again, however short an epoch is.
        """
        if not len(self) or not n:
            return []
        rounds = np.arange(epoch * n // len(self), -(-(epoch + 1) * n // len(self)))
        order = np.concatenate(
            [np.random.default_rng([seed, 1, int(k)]).permutation(len(self)) for k in rounds]
        )
        first = epoch * n - int(rounds[0]) * len(self)
        rng = np.random.default_rng([seed, 2, epoch])
        items = []
        for i in order[first : first + n]:
            mine = self._sentences[self._bounds[i] : self._bounds[i + 1]]
            if len(mine) > self._per_image:
                mine = rng.choice(mine, self._per_image, replace=False)
            items.append((int(self._images[i]), mine))
        return items


class StepPlan:
    """Images and sentences of every step of an epoch.

    `sentences` carry the target that the run is about. `beside` them each step takes (sentences, images) of other kinds:
    box-only referents, or pseudo labels beside masks. An epoch without `steps` shows every image of `sentences` once; with
    `steps`, the next epoch goes on where it stopped.
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        sentences: NDArray[np.int64],
        *,
        images: int,
        per_image: int,
        seed: int,
        steps: int | None = None,
        beside: Sequence[tuple[NDArray[np.int64], int]] = (),
    ) -> None:
        self.seed = seed
        self._main = _Pool(dataset, sentences, per_image)
        self._main_images = images
        self._beside: list[tuple[_Pool, int]] = []
        for others, count in beside:
            taken = min(count, self._main_images - 1) if len(others) else 0
            self._beside.append((_Pool(dataset, others, per_image), taken))
            self._main_images -= taken
        self.steps_per_epoch = steps or -(-len(self._main) // self._main_images)
        self._total = steps * self._main_images if steps else len(self._main)

    def epoch(self, epoch: int) -> list[Entry]:
        """One entry a step."""
        drawn = [(self._main.draw(self.seed, epoch, self._total), self._main_images)]
        drawn += [(pool.draw(self.seed, epoch, self.steps_per_epoch * n), n) for pool, n in self._beside]
        steps = [
            [item for items, n in drawn for item in items[k * n : k * n + n]]
            for k in range(self.steps_per_epoch)
        ]
        return [(epoch, number, step) for number, step in enumerate(steps)]
