"""Entries of the plan become tensors.

Every item's randomness depends only on (seed, epoch, step, position), so a resumed run sees exactly what an uninterrupted one
would, with any number of workers. Several processes share the items of a step: each sees what one process would see at the
positions that are its own, on the same canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stages.data.crop_refinement import CropRefinement, View
from stages.data.dataset import ReferringDataset
from stages.data.jitter import random_frame
from stages.data.text import TextCodec, mirror_sentence
from stages.data.transforms import Augmentation, Frame, colour_noise, on_canvas, plain_frame, render
from stages.geometry.boxes import polygon_extent
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.geometry.resampling import start_at_top
from stages.models.config import ModelConfig
from stages.models.semantics import semantics_of
from stages.models.vocabulary import sequence_layout
from stages.training.batch import Batch
from stages.training.plan import Entry
from stages.training.targets import SlotWeights, sequence_targets
from stages.world import ALONE, World, usable_cores

MOST_WORKERS = 8  # more prepare no more than a large GPU takes
MOSTLY = 0.3  # share of a box inside the window from which on its sentence is trained before others


@dataclass(frozen=True)
class ContourTable:
    """What the run may know of contours: one for each referent, in original pixels, or nothing.

    `points_xy[offsets[r]:offsets[r+1]]` is the contour of referent r (empty = box only); `weight` (R,) float32.
    """

    points_xy: NDArray[np.float32]
    offsets: NDArray[np.int64]
    weight: NDArray[np.float32]

    def contour(self, referent: int) -> NDArray[np.float32]:
        return self.points_xy[self.offsets[referent] : self.offsets[referent + 1]]

    @classmethod
    def of_contours(
        cls, n_referents: int, contours: dict[int, NDArray[np.float32]], weights: dict[int, float]
    ) -> ContourTable:
        """`contours` is emptied on the way, so that nothing is held twice."""
        lengths, weight = np.zeros(n_referents, np.int64), np.zeros(n_referents, np.float32)
        for r, contour in contours.items():
            lengths[r], weight[r] = len(contour), weights.get(r, 1.0)
        offsets = np.concatenate(([0], lengths.cumsum()))
        values = np.empty((int(offsets[-1]), 2), np.float32)
        for r in list(contours):
            values[offsets[r] : offsets[r + 1]] = contours.pop(r)
        return cls(values, offsets, weight)


@dataclass(frozen=True)
class Example:
    """One sentence of a step and what is to be predicted, in pixels of the model's frame.

    Attributes:
        view: position of its picture in the step. box_xyxy: (4,). contour_xy: (N, 2), NaN = no such point.
        points_xy: the same points in the order they are to be predicted in. weight: of the contour; 0 = box only.
    """

    view: int
    referent: int
    text: str
    box_xyxy: NDArray[np.float64]
    contour_xy: NDArray[np.float64]
    points_xy: NDArray[np.float64]
    weight: float


class StepDataset(Dataset[Batch]):
    """Entry of the plan -> Batch. Picklable: workers reopen the artifact for themselves."""

    def __init__(
        self,
        dataset: ReferringDataset,
        codec: TextCodec,
        config: ModelConfig,
        contours: ContourTable,
        augmentation: Augmentation,
        weights: SlotWeights,
        seed: int,
        crops: CropRefinement | None = None,
        world: World = ALONE,
    ) -> None:
        self.dataset, self.codec, self.config, self.contours = dataset, codec, config, contours
        self.crops = crops or CropRefinement()
        self.world = World(world.rank, world.size)  # the plain numbers can be sent to worker processes
        self.augmentation, self.weights, self.seed = augmentation, weights, seed
        self.layout, self.semantics = sequence_layout(config), semantics_of(config)
        # padding of the sentences costs time in the encoder; the release lets it take part
        self.trims_words = config.text.packed and not self.semantics.sees_padding
        self.draws_masks = config.sequence == "mask"
        self.fills_contours = config.auxiliary_mask > 0 and config.zoom_margin is not None

    def __getitem__(self, entry: Entry) -> Batch:
        step = entry[2]
        # fewer items than processes: each does all of them, which changes no mean over the step
        mine = self.world.share(range(len(step))) if len(step) >= self.world.size else range(len(step))
        views: list[View] = []
        examples: list[Example] = []
        for position in mine:
            image_index, sentences = step[position]
            rng = self._rng(entry, position)
            for view in self._views(rng, image_index, sentences):
                examples += [self._example(rng, view, len(views), int(s)) for s in view.sentences]
                views.append(view)
        return self._batch(views, examples, self._least_canvas(entry) if len(mine) < len(step) else (1, 1))

    def _least_canvas(self, entry: Entry) -> tuple[int, int]:
        """(h, w) that the pictures of all the step's items need: what is padding must not depend on who shares them."""
        if self.config.zoom_margin is not None:
            return (self.config.image.size, self.config.image.size)
        sizes = [
            self._frame(self._rng(entry, position), image, sentences)[0].size_hw
            for position, (image, sentences) in enumerate(entry[2])
        ]
        return max(h for h, _ in sizes), max(w for _, w in sizes)

    def _rng(self, entry: Entry, position: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, entry[0], entry[1], position])

    def _example(self, rng: np.random.Generator, view: View, number: int, sentence: int) -> Example:
        referent, text = int(self.dataset.sentence_referent[sentence]), self.dataset.texts[sentence]
        contour, box = self.contours.contour(referent), self.dataset.boxes_xyxy[referent]
        if view.turn:
            contour = start_at_top(view.turn.points(contour))
            box = polygon_extent(contour)
        targets = self._contour_targets(contour, view.frame)
        points, known = targets.copy(), ~np.isnan(targets[:, 0])
        if self.augmentation.shuffle_points and rng.random() < self.augmentation.shuffle_points:
            points[known] = rng.permutation(points[known])
        return Example(
            view=number,
            referent=referent,
            text=mirror_sentence(text) if view.frame.mirrored else text,
            box_xyxy=view.frame.boxes_to_model(box[None])[0],
            contour_xy=targets,
            points_xy=points,
            weight=float(self.contours.weight[referent]) if known.any() else 0.0,
        )

    def _batch(self, views: Sequence[View], examples: Sequence[Example], least_hw: tuple[int, int]) -> Batch:
        multiple = self.config.image.multiple
        canvas = on_canvas([view.picture for view in views], multiple, least_hw)
        padded_hw = np.array([view.frame.padded_hw(multiple) for view in views], np.int64)
        owners = np.array([e.view for e in examples])
        boxes, points = np.array([e.box_xyxy for e in examples]), np.array([e.points_xy for e in examples])
        weight = np.array([e.weight for e in examples], np.float32)
        (tokens, slots), (_, unweighted) = (
            sequence_targets(
                self.layout, boxes, points, contour_weight, padded_hw[owners], self.weights, self.semantics.quantise
            )
            for contour_weight in (weight, (weight > 0).astype(np.float32))
        )  # fmt: skip
        words, word_mask = self.codec.encode([e.text for e in examples])
        if self.trims_words:
            longest = int(word_mask.sum(1).max())
            words, word_mask = words[:, :longest], word_mask[:, :longest]
        masks, mask_weight = self._masks(views, examples, canvas.shape[1:3])
        return Batch.of_arrays(
            images=canvas.transpose(0, 3, 1, 2),
            sizes_hw=np.array([view.frame.size_hw for view in views], np.int64),
            image_of_sentence=owners,
            words=words,
            word_mask=word_mask,
            targets=tokens,
            slot_weights=slots,
            boxes=boxes.astype(np.float32),
            masks=masks,
            mask_weight=mask_weight,
            slot_count=np.asarray(unweighted.sum()),
        )

    def _views(
        self, rng: np.random.Generator, image_index: int, sentences: NDArray[np.int64]
    ) -> Iterator[View]:
        """Pictures of an image and the sentences each is used for: one for all, or a window around each one's box."""
        image = self.dataset.image(image_index)
        referents = self.dataset.sentence_referent[sentences]
        size, margin = self.config.image.size, self.config.zoom_margin
        if margin is not None:
            for sentence, referent in zip(sentences, referents, strict=True):
                yield self.crops.view(
                    rng, self.dataset, image, int(sentence), self.contours.contour(referent), size, margin, self.augmentation
                )  # fmt: skip
            return
        frame, shown = self._frame(rng, image_index, sentences)
        picture = colour_noise(rng, render(image, frame), self.augmentation.colour)
        yield View(frame, picture, sentences[shown > (MOSTLY if (shown > MOSTLY).any() else 0)])

    def _frame(
        self, rng: np.random.Generator, image_index: int, sentences: NDArray[np.int64]
    ) -> tuple[Frame, NDArray[np.float64]]:
        """The window of an image and the share that it shows of each sentence's box."""
        boxes = self.dataset.boxes_xyxy[self.dataset.sentence_referent[sentences]]
        size, size_hw = self.config.image.size, tuple(map(int, self.dataset.image_sizes_hw[image_index]))
        keep = boxes[rng.integers(len(boxes))]
        frame = random_frame(rng, (size_hw[0], size_hw[1]), size, self.augmentation, keep)
        shown = frame.shows(boxes)
        if not shown.any():  # a window beside every referent teaches nothing: the whole picture instead
            return plain_frame(size_hw[0], size_hw[1], size), np.ones(len(boxes))
        return frame, shown

    def _masks(
        self, views: Sequence[View], examples: Sequence[Example], canvas_hw: tuple[int, ...]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks (S, H, W) on the canvas and weights (S,); (S, 0, 0) for models that learn none."""
        if self.fills_contours:
            weight = np.array([e.weight for e in examples], np.float32)
            return filled([e.contour_xy for e in examples], canvas_hw), weight
        weight = np.zeros(len(examples), np.float32)
        if not self.draws_masks:
            return np.zeros((len(examples), 0, 0), np.bool_), weight
        masks = np.zeros((len(examples), *canvas_hw), np.bool_)
        for row, example in enumerate(examples):
            weight[row] = max(self.contours.weight[example.referent], 0)
            if weight[row]:
                mask = self._known_mask(example.referent).astype(np.uint8) * np.uint8(255)
                part = render(mask, views[example.view].frame) >= 128
                masks[row, : part.shape[0], : part.shape[1]] = part
        return masks, weight

    def _known_mask(self, referent: int) -> NDArray[np.bool_]:
        """(H, W) of the original image: the true mask where it may be seen, else the filled contour."""
        if self.dataset.mask_visible[referent]:
            return self.dataset.mask(referent)
        h, w = (int(v) for v in self.dataset.image_sizes_hw[self.dataset.referent_image[referent]])
        return rle_to_mask(polygon_to_rle(self.contours.contour(referent), (h, w)))

    def _contour_targets(self, contour: NDArray[np.float32], frame: Frame) -> NDArray[np.float64]:
        """Contour (M, 2) -> target points (N, 2) in model pixels, cut at the window's border; NaN where M = 0."""
        n = max(self.config.n_points, 1)
        if not len(contour) or not self.layout.contour:
            return np.full((n, 2), np.nan)
        x0, y0, x1, y1 = frame.window_xyxy
        if (contour < (x0, y0)).any() or (contour > (x1, y1)).any():
            mask = rle_to_mask(polygon_to_rle(contour - np.array([x0, y0]), (y1 - y0, x1 - x0)))
            contour = largest_outer_contour(mask) + np.array([x0, y0], np.float32)
            if len(contour) < 3:
                return np.full((n, 2), np.nan)
        contour = frame.to_model(contour).astype(np.float32)
        return self.semantics.contour_targets(contour, frame.size_hw, n, mirrored=frame.mirrored)


def filled(points_xy: list[NDArray[np.float64]], size_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    """Polygons (N, 2), NaN = no such point, in pixels -> (S, H, W); empty where there is no polygon."""
    out = np.zeros((len(points_xy), *size_hw), np.bool_)
    for mask, points in zip(out, points_xy, strict=True):
        known = points[~np.isnan(points[:, 0])]
        if len(known) >= 3:
            mask[:] = rle_to_mask(polygon_to_rle(known, (int(size_hw[0]), int(size_hw[1]))))
    return out


def used_workers(asked: int | None, device: torch.device, processes: int) -> int:
    """`--workers`, or what suits the device: each one's share of the cores, of so many processes on this machine.

    A GPU takes a step of photographs in a tenth of the time that one process needs to prepare it (docs/BENCHMARKS.md).
    """
    if asked is not None or device.type == "cpu":
        return asked or 0
    return min(MOST_WORKERS, max(1, usable_cores() // processes))


class BatchLoader:
    """Batches of one epoch after another, in the plan's order, prepared by workers that live as long as the loader.

    It draws a number each time an epoch starts, from a generator of its own: drawn from the global one, it would give
    a resumed run other dropout than an uninterrupted one.
    """

    def __init__(self, steps: StepDataset, workers: int) -> None:
        self._entries: list[Entry] = []
        self._loader = DataLoader(
            steps, batch_size=None, sampler=self._entries, num_workers=workers, prefetch_factor=4 if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(), generator=torch.Generator().manual_seed(steps.seed),
        )  # fmt: skip

    def epoch(self, entries: list[Entry]) -> Iterator[Batch]:
        self._entries[:] = entries
        with _one_opencv_thread():
            batches = iter(self._loader)
        yield from batches


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Workers that are forked here keep to their core; once forked, a worker would wait for ever for threads it lacks."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
