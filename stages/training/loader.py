"""Batches for training: which images and sentences a step sees, and how they become tensors.

A step holds a few images, each with several of its sentences, because an image is encoded once for all of them.
The plan of an epoch depends only on (seed, epoch) and every item's randomness only on (seed, epoch, step, position), so a
resumed run sees exactly what an uninterrupted one would, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.data.dataset import ReferringDataset
from stages.data.second_look import SecondLook, View
from stages.data.text import TextCodec, mirror_sentence
from stages.data.transforms import Augmentation, Frame, colour_noise, plain_frame, random_frame, render
from stages.geometry.boxes import polygon_extent
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.geometry.resampling import resample_uniform, sample_release
from stages.models.config import ModelConfig
from stages.models.vocabulary import sequence_layout
from stages.training.targets import SlotWeights, sequence_targets

Item = tuple[int, NDArray[np.int64]]  # an image and the sentences of it that a step uses
Entry = tuple[int, int, list[Item]]  # epoch, step and items of one step
MOSTLY = 0.3  # share of a box inside the window from which on its sentence is trained before others


@dataclass
class Batch:
    """One training step. I images, S sentences, L words, T slots.

    Attributes:
        images: (I, 3, H, W) uint8 RGB, padding 0; sizes_hw: (I, 2) int64 pixels that are image.
        image_of_sentence: (S,) int64; words: (S, L) int64; word_mask: (S, L) bool.
        targets: (S, T) int64; slot_weights: (S, T) float32; slot_count: () float32, the sum of the slot weights as if
            every known contour had weight 1; None = their sum as it is.
        boxes: (S, 4) float32 xyxy, model pixels.
        masks: (S, H, W) bool on the canvas, False where none is known; mask_weight: (S,) float32, 0 = unknown.
            Only for models that answer with masks or mark the outline's inside; (S, 0, 0) and zeros otherwise.
    """

    images: Tensor
    sizes_hw: Tensor
    image_of_sentence: Tensor
    words: Tensor
    word_mask: Tensor
    targets: Tensor
    slot_weights: Tensor
    boxes: Tensor
    masks: Tensor
    mask_weight: Tensor
    slot_count: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        moved = {n: p.to(device, non_blocking=True) for n, p in parts.items() if p is not None}
        return Batch(**moved)


@dataclass(frozen=True)
class ContourTable:
    """What the run may know about outlines: for each referent its ring in original pixels, or nothing.

    `points_xy[offsets[r]:offsets[r+1]]` is the ring of referent r (empty = box only); `weight` (R,) float32.
    """

    points_xy: NDArray[np.float32]
    offsets: NDArray[np.int64]
    weight: NDArray[np.float32]

    def ring(self, referent: int) -> NDArray[np.float32]:
        return self.points_xy[self.offsets[referent] : self.offsets[referent + 1]]

    @classmethod
    def from_rings(
        cls, n_referents: int, rings: dict[int, NDArray[np.float32]], weights: dict[int, float]
    ) -> ContourTable:
        lengths, weight = np.zeros(n_referents, np.int64), np.zeros(n_referents, np.float32)
        for r, ring in rings.items():
            lengths[r], weight[r] = len(ring), weights.get(r, 1.0)
        offsets = np.concatenate(([0], lengths.cumsum()))
        parts = [rings[r] for r in sorted(rings)]
        values = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
        return cls(values.astype(np.float32), offsets, weight)


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
    box-only referents, or pseudo outlines beside masks. An epoch without `steps` shows every image of `sentences` once; with
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

    def epoch(self, epoch: int, rank: int = 0, world: int = 1) -> list[Entry]:
        """One entry a step of process `rank` of `world`."""
        drawn = [(self._main.draw(self.seed, epoch, self._total), self._main_images)]
        drawn += [(pool.draw(self.seed, epoch, self.steps_per_epoch * n), n) for pool, n in self._beside]
        steps = [
            [item for items, n in drawn for item in items[k * n : k * n + n]]
            for k in range(self.steps_per_epoch)
        ]
        entries = [(epoch, number, step) for number, step in enumerate(steps)]
        return entries[: len(entries) // world * world][rank::world]


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
        second_look: SecondLook | None = None,
    ) -> None:
        self.dataset, self.codec, self.config, self.contours = dataset, codec, config, contours
        self.second_look = second_look or SecondLook()
        self.augmentation, self.weights, self.seed = augmentation, weights, seed
        self.layout = sequence_layout(config)
        self.draws_masks = config.sequence == "mask"
        self.fills_outlines = config.grounding > 0 and config.zoom_margin is not None

    def __getitem__(self, entry: Entry) -> Batch:
        epoch, number, step = entry
        pictures, frames, texts, owners, boxes, points, weights = [], [], [], [], [], [], []
        drawn: list[tuple[int, int]] = []
        outlines: list[NDArray[np.float64]] = []
        for position, (image_index, sentences) in enumerate(step):
            rng = np.random.default_rng([self.seed, epoch, number, position])
            for view in self._views(rng, image_index, sentences):
                frame = view.frame
                pictures.append(view.picture)
                frames.append(frame)
                for sentence in view.sentences:
                    referent = int(self.dataset.sentence_referent[sentence])
                    text = self.dataset.texts[sentence]
                    texts.append(mirror_sentence(text) if frame.mirrored else text)
                    owners.append(len(frames) - 1)
                    outline, box = self.contours.ring(referent), self.dataset.boxes_xyxy[referent]
                    if view.turn:
                        outline = start_at_top(view.turn.points(outline))
                        box = polygon_extent(outline)
                    boxes.append(frame.boxes_to_model(box[None])[0])
                    ring = self._ring(outline, frame)
                    outlines.append(ring.copy())
                    if self.augmentation.shuffle_points and rng.random() < self.augmentation.shuffle_points:
                        known = ~np.isnan(ring[:, 0])
                        ring[known] = rng.permutation(ring[known])
                    points.append(ring)
                    weights.append(0.0 if np.isnan(ring).all() else self.contours.weight[referent])
                    if self.draws_masks:
                        drawn.append((referent, len(frames) - 1))
        sizes = np.array([f.size_hw for f in frames], np.int64)
        multiple = self.config.image.multiple
        own = -(-sizes // multiple) * multiple
        canvas = np.zeros((len(pictures), *own.max(0), 3), np.uint8)
        for i, picture in enumerate(pictures):
            canvas[i, : picture.shape[0], : picture.shape[1]] = picture
        per_contour = np.array(weights, np.float32)
        (tokens, slots), (_, unweighted) = (
            sequence_targets(
                self.layout, np.array(boxes), np.array(points), contour_weight, own[owners], self.weights,
                release=self.config.semantics == "release",
            )
            for contour_weight in (per_contour, (per_contour > 0).astype(np.float32))
        )  # fmt: skip
        words, mask = self.codec.encode(texts)
        masks, mask_weight = _no_masks(len(owners))
        if drawn:
            masks, mask_weight = self._masks(drawn, frames, canvas.shape[1:3])
        elif self.fills_outlines:
            masks, mask_weight = filled(outlines, canvas.shape[1:3]), per_contour
        arrays = (
            canvas.transpose(0, 3, 1, 2), sizes, np.array(owners), words, mask, tokens, slots,
            np.array(boxes, np.float32), masks, mask_weight, unweighted.sum(),
        )  # fmt: skip
        return Batch(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))

    def _views(
        self, rng: np.random.Generator, image_index: int, sentences: NDArray[np.int64]
    ) -> Iterator[View]:
        """Pictures of an image and the sentences each is used for: one for all, or a window around each one's box."""
        image = self.dataset.image(image_index)
        referents = self.dataset.sentence_referent[sentences]
        size, margin = self.config.image.size, self.config.zoom_margin
        if margin is not None:
            for sentence, referent in zip(sentences, referents, strict=True):
                yield self.second_look.view(
                    rng, self.dataset, image, int(sentence), self.contours.ring(referent), size, margin, self.augmentation
                )  # fmt: skip
            return
        boxes = self.dataset.boxes_xyxy[referents]
        keep = boxes[rng.integers(len(boxes))]
        frame = random_frame(rng, image.shape[:2], size, self.augmentation, keep)
        shown = frame.shows(boxes)
        if not shown.any():  # a window beside every referent teaches nothing: the whole picture instead
            frame = plain_frame(image.shape[0], image.shape[1], size)
            shown = np.ones(len(boxes))
        picture = colour_noise(rng, render(image, frame), self.augmentation.colour)
        yield View(frame, picture, sentences[shown > (MOSTLY if (shown > MOSTLY).any() else 0)])

    def _masks(
        self, drawn: list[tuple[int, int]], frames: list[Frame], canvas_hw: tuple[int, ...]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks (S, H, W) and weights (S,) of (referent, image of the step): the true mask where it may be seen, else
        the filled ring, else nothing."""
        masks, weight = np.zeros((len(drawn), *canvas_hw), np.bool_), np.zeros(len(drawn), np.float32)
        for row, (referent, position) in enumerate(drawn):
            if self.contours.weight[referent] <= 0:
                continue
            if self.dataset.mask_visible[referent]:
                mask = self.dataset.mask(referent)
            else:
                h, w = (int(v) for v in self.dataset.image_sizes_hw[self.dataset.referent_image[referent]])
                mask = rle_to_mask(polygon_to_rle(self.contours.ring(referent), (h, w)))
            part = render(mask.astype(np.uint8) * np.uint8(255), frames[position]) >= 128
            masks[row, : part.shape[0], : part.shape[1]] = part
            weight[row] = self.contours.weight[referent]
        return masks, weight

    def _ring(self, ring: NDArray[np.float32], frame: Frame) -> NDArray[np.float64]:
        """Outline (M, 2) -> target points (N, 2) in model pixels, cut at the window's border; NaN where M = 0."""
        n = max(self.config.n_points, 1)
        if not len(ring) or not self.layout.contour:
            return np.full((n, 2), np.nan)
        x0, y0, x1, y1 = frame.window_xyxy
        inside = (
            ring[:, 0].min() >= x0
            and ring[:, 1].min() >= y0
            and ring[:, 0].max() <= x1
            and ring[:, 1].max() <= y1
        )
        if not inside:
            mask = rle_to_mask(polygon_to_rle(ring - np.array([x0, y0]), (y1 - y0, x1 - x0)))
            ring = largest_outer_contour(mask) + np.array([x0, y0], np.float32)
            if len(ring) < 3:
                return np.full((n, 2), np.nan)
        ring = frame.to_model(ring).astype(np.float32)
        if self.config.semantics == "release":
            return release_points(ring, frame.size_hw, n)
        if frame.mirrored:
            ring = start_at_top(ring[::-1])
        return np.asarray(resample_uniform(ring, n), np.float64)


def release_points(ring_xy: NDArray[np.float32], size_hw: tuple[int, int], n: int) -> NDArray[np.float64]:
    """The release's targets: every ceil(M / n)-th of the M contour pixels of the mask at model size, NaN for the rest."""
    mask = rle_to_mask(polygon_to_rle(ring_xy, size_hw))
    if not mask.any():
        return np.full((n, 2), np.nan)
    points = sample_release(mask, n).astype(np.float64)
    return np.where(points < 0, np.nan, points)


def filled(points_xy: list[NDArray[np.float64]], size_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    """Polygons (N, 2), NaN = no such point, in pixels -> (S, H, W); empty where there is no polygon."""
    out = np.zeros((len(points_xy), *size_hw), np.bool_)
    for mask, points in zip(out, points_xy, strict=True):
        known = points[~np.isnan(points[:, 0])]
        if len(known) >= 3:
            mask[:] = rle_to_mask(polygon_to_rle(known, (int(size_hw[0]), int(size_hw[1]))))
    return out


def _no_masks(n: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    return np.zeros((n, 0, 0), np.bool_), np.zeros(n, np.float32)


def start_at_top(ring_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same ring beginning at its top-most, then left-most point (the convention of every target)."""
    return np.roll(ring_xy, -int(np.lexsort((ring_xy[:, 0], ring_xy[:, 1]))[0]), 0)


def train_batches(steps: StepDataset, plan: list[Entry], workers: int) -> Iterator[Batch]:
    """Batches of the plan's entries, in order.

    The loader draws a number each time it starts, from a generator of its own: drawn from the global one, it would give
    a resumed run other dropout than an uninterrupted one.
    """
    loader = DataLoader(
        steps, batch_size=None, sampler=plan, num_workers=workers, prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(), generator=torch.Generator().manual_seed(steps.seed),
    )  # fmt: skip
    yield from loader
