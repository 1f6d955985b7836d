"""Run a model over sentences of a dataset: tokens, points in original pixels, attention maps.

An image is decoded, resized and encoded once for all of its sentences; the order of the sentences in a batch, and
what else is in it, does not change a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.transforms import Frame, plain_frame, render, zoom_frame
from stages.errors import ArtifactError
from stages.geometry.boxes import polygon_extent
from stages.geometry.quantisation import dequantise, quantise
from stages.geometry.rasterise import Rle, polygon_to_rle
from stages.inference.auxiliary_contours import Outline, marked_rings, require_marks
from stages.inference.detections import find, refuse_prompt
from stages.inference.devices import autocast
from stages.models.image_maps import normalise
from stages.models.mdetr import DetectorModel
from stages.models.memory import Memory
from stages.models.vocabulary import BOX_SLOTS, SequenceLayout
from stages.reporter import Reporter, SilentReporter
from stages.weights.model_file import LoadedModel

SENTENCES_AT_ONCE = 4  # decoding batch, in multiples of the image batch


class ReferringSource(Protocol):
    """What prediction reads of a dataset (`ReferringDataset`, or photographs from elsewhere).

    referent_image (R,) and sentence_referent (S,): positions of each referent's image and each sentence's referent;
    boxes_xyxy (R, 4) original pixels, read only with a box prompt; image_sizes_hw (I, 2).
    """

    @property
    def referent_image(self) -> NDArray[Any]: ...
    @property
    def sentence_referent(self) -> NDArray[Any]: ...
    @property
    def boxes_xyxy(self) -> NDArray[Any]: ...
    @property
    def image_sizes_hw(self) -> NDArray[Any]: ...
    @property
    def texts(self) -> Sequence[str]: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""


@dataclass
class Predictions:
    """Row i belongs to the i-th sentence asked for; K decoded slots.

    Attributes:
        sentence_index: (S,) int64.
        tokens: (S, K) int32; token_probability: (S, K) float32.
        points_xy: S rings (k, 2) float32 in original pixels, cut at the first END.
        boxes_xyxy: (S, 4) float32 original pixels: the box the model wrote, else the ring's extent, NaN if neither.
        rles: masks at the original size, of models that answer with masks (a detector; its only token is the number of
            its best query, and `points_xy` is the largest outer contour of the mask); empty for sequence models.
        n_tokens: (S,) int64, how many of the K tokens are the answer: up to and with the contour's first END; None = all.
    """

    sentence_index: NDArray[np.int64]
    tokens: NDArray[np.int32]
    token_probability: NDArray[np.float32]
    points_xy: list[NDArray[np.float32]]
    boxes_xyxy: NDArray[np.float32]
    rles: list[Rle] = field(default_factory=list)
    n_tokens: NDArray[np.int64] | None = None

    def confidence(self) -> NDArray[np.float32]:
        """(S,) geometric mean of the probabilities of the tokens of the answer (given ones count as certain)."""
        log_p = np.log(np.maximum(self.token_probability, 1e-12))
        if self.n_tokens is None:
            return np.exp(log_p.mean(1)).astype(np.float32)
        counted = np.arange(log_p.shape[1]) < self.n_tokens[:, None]
        return np.exp((log_p * counted).sum(1) / self.n_tokens).astype(np.float32)

    def masks(self, sizes_hw: Sequence[Any]) -> list[Rle]:
        """(S,) masks at the original sizes: those that were drawn, else the filled rings."""
        if self.rles:
            return self.rles
        return [polygon_to_rle(ring, size) for ring, size in zip(self.points_xy, sizes_hw, strict=True)]


@dataclass
class AttentionSample:
    """One sentence's prediction with the cross-attention of every decoded slot.

    maps: (K, h, w) float32 over the image's own valid cells (last decoder layer, mean of heads);
    step_of_point: (k,) the slot that wrote each point's x.
    """

    tokens: NDArray[np.int32]
    points_xy: NDArray[np.float32]
    box_xyxy: NDArray[np.float32] | None
    maps: NDArray[np.float32]
    step_of_point: NDArray[np.int64]

    @property
    def looks_once(self) -> bool:
        """One map belongs to the whole outline (a detector's query); a box or point takes at least two slots."""
        return len(self.maps) == 1


@dataclass
class EncodedGroup:
    """Sentences decoded together, and the frames of their images."""

    rows: NDArray[np.int64]
    memory: Memory
    frames: list[Frame]
    prompt: torch.Tensor | None


def own_size_wh(frame: Frame, multiple: int) -> NDArray[np.float64]:
    h, w = frame.size_hw
    return np.array([-(-w // multiple) * multiple, -(-h // multiple) * multiple], np.float64)


def encoded_groups(
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    batch_images: int,
    box_prompt: bool,
) -> Iterator[EncodedGroup]:
    """Memories of all sentences, view by view; sentences that share a view share its encoding."""
    referents = dataset.sentence_referent[sentences]
    images = dataset.referent_image[referents]
    config, device = loaded.config, loaded.device
    boxes = None
    if config.zoom_margin is None:
        views = images
    elif box_prompt:
        views, boxes = referents, dataset.boxes_xyxy[referents]
    else:
        views, boxes = np.arange(len(sentences)), _located(loaded, dataset, sentences, batch_images)
    order = np.lexsort((views, images))
    first = np.flatnonzero(np.diff(views[order], prepend=-1))
    bounds = np.append(first, len(order))
    for k in range(0, len(first), batch_images):
        rows = order[bounds[k] : bounds[min(k + batch_images, len(first))]]
        pictures, frames = [], []
        for row in order[bounds[k : min(k + batch_images, len(first))]]:
            picture = dataset.image(int(images[row]))
            if boxes is None or config.zoom_margin is None:
                frames.append(plain_frame(picture.shape[0], picture.shape[1], config.image.size))
            else:
                frames.append(zoom_frame(boxes[row], config.image.size, config.zoom_margin))
            pictures.append(render(picture, frames[-1]))
        own = np.array([own_size_wh(f, config.image.multiple)[::-1] for f in frames], np.int64)
        canvas = np.zeros((len(frames), *own.max(0), 3), np.uint8)
        for i, picture in enumerate(pictures):
            canvas[i, : picture.shape[0], : picture.shape[1]] = picture
        sizes = torch.tensor([f.size_hw for f in frames], device=device)
        pixels = torch.from_numpy(canvas).permute(0, 3, 1, 2).to(device)
        vision = loaded.model.encode_images(normalise(pixels, sizes, config), sizes)
        local = np.repeat(np.arange(len(frames)), np.diff(bounds[k : k + len(frames) + 1]))
        limit = batch_images * SENTENCES_AT_ONCE
        for part in range(0, len(rows), limit):
            here, at = rows[part : part + limit], local[part : part + limit]
            words, mask = loaded.codec.encode([dataset.texts[s] for s in sentences[here]])
            text = loaded.model.encode_text(
                torch.from_numpy(words).to(device), torch.from_numpy(mask).to(device)
            )
            memory = loaded.model.join(vision, torch.from_numpy(at).to(device), text)
            frames_here = [frames[i] for i in at]
            prompt = None
            if box_prompt:
                prompt = torch.from_numpy(
                    box_tokens(loaded, dataset.boxes_xyxy[referents[here]], frames_here)
                ).to(device)
            yield EncodedGroup(here, memory, frames_here, prompt)


def _located(
    loaded: LoadedModel, dataset: ReferringSource, sentences: NDArray[np.int64], batch_images: int
) -> NDArray[np.float32]:
    """(S, 4) boxes of the locator that comes with a model of a second look."""
    if loaded.locator is None:
        raise ArtifactError("the model predicts in a window around the box, but has no locator to find it")
    return predict_sentences(loaded.locator, dataset, sentences, batch_images=batch_images).boxes_xyxy


def box_tokens(
    loaded: LoadedModel, boxes_xyxy: NDArray[np.floating], frames: list[Frame]
) -> NDArray[np.int64]:
    """True boxes as the four tokens that start a box-then-contour sequence: (S, 4)."""
    model_boxes = np.stack([f.boxes_to_model(b[None])[0] for f, b in zip(frames, boxes_xyxy, strict=True)])
    sizes = np.stack([np.tile(own_size_wh(f, loaded.config.image.multiple), 2) for f in frames])
    return quantise(model_boxes, sizes, loaded.config.n_bins, release=loaded.config.semantics == "release")


def answer_of(
    loaded: LoadedModel, tokens: NDArray[np.int64], frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Tokens (K,) of one sequence -> ring (k, 2) and box (4,) or None, original pixels."""
    layout, config = loaded.model.layout, loaded.config
    wh = own_size_wh(frame, config.image.multiple)
    centre = config.semantics == "corrected"
    slots = list(layout.decoded)
    box = None
    if layout.box:
        corners = dequantise(tokens[:BOX_SLOTS].reshape(2, 2), wh, config.n_bins, centre=centre)
        if config.semantics == "corrected":  # two corners span a box in whatever order they were written
            corners = np.sort(corners, axis=0)
        box = frame.to_original(corners).reshape(4).astype(np.float32)
    ring = np.zeros((0, 2), np.float32)
    if layout.contour:
        written = tokens[[slots.index(c) for c in layout.contour]]
        stop = int(np.argmax(written == layout.end)) if (written == layout.end).any() else len(written)
        values = written[: stop // 2 * 2].reshape(-1, 2)
        ring = (
            frame.to_original(dequantise(values, wh, config.n_bins, centre=centre))
            .astype(np.float32)
            .reshape(-1, 2)
        )
    return ring, box


def answer_length(layout: SequenceLayout, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Decoded tokens (S, K) -> (S,) how many come before or are the contour's first END; K where there is none."""
    k = tokens.shape[1]
    of_contour = np.isin(layout.decoded, [*layout.contour, layout.length - 1] if layout.contour else [])
    ends = (tokens == layout.end) & of_contour
    return np.where(ends.any(1), ends.argmax(1) + 1, k).astype(np.int64)


@torch.inference_mode()
def predict_sentences(
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    *,
    batch_images: int = 32,
    box_prompt: bool = False,
    outline: Outline = "decoder",
    reporter: Reporter | None = None,
    what: str = "predict",
) -> Predictions:
    """Greedy decoding of every sentence.

    Args:
        sentences: (S,) int64 sentence indices of `dataset`.
        box_prompt: give the dataset's box as the first four tokens (needs a sequence that starts with a box).
        outline: `marked` replaces the rings, not the tokens and boxes; UsageError for a model that marks none.
    """
    model = loaded.model
    if outline == "auxiliary":
        require_marks(loaded)
    s, k = len(sentences), len(model.layout.decoded)
    if isinstance(model, DetectorModel):
        return _detect_sentences(model, loaded, dataset, sentences, batch_images, box_prompt, reporter, what)
    out = Predictions(
        sentences, np.zeros((s, k), np.int32), np.zeros((s, k), np.float32),
        [np.zeros((0, 2), np.float32)] * s, np.full((s, 4), np.nan, np.float32),
        n_tokens=(lengths := np.full(s, k)),
    )  # fmt: skip
    model.eval()
    with (
        (reporter or SilentReporter()).progress(what, s, unit="sentence") as task,
        autocast(loaded.device, loaded.precision),
    ):
        for group in encoded_groups(loaded, dataset, sentences, batch_images, box_prompt):
            decoded = model.generate(group.memory, group.prompt)
            tokens = decoded.tokens.cpu().numpy()
            out.tokens[group.rows] = tokens
            lengths[group.rows] = answer_length(model.layout, tokens)
            out.token_probability[group.rows] = decoded.probability.float().cpu().numpy()
            for row, frame, sequence in zip(group.rows, group.frames, tokens, strict=True):
                ring, box = answer_of(loaded, sequence, frame)
                out.points_xy[row] = ring
                if box is not None:
                    out.boxes_xyxy[row] = box
                elif len(ring) >= 2:
                    out.boxes_xyxy[row] = polygon_extent(ring)
            if outline == "auxiliary":
                for row, ring in zip(
                    group.rows, marked_rings(loaded, group.memory, group.frames), strict=True
                ):
                    out.points_xy[row] = ring
            task.advance(len(group.rows))
    return out


def _detect_sentences(
    model: DetectorModel,
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    batch_images: int,
    box_prompt: bool,
    reporter: Reporter | None,
    what: str,
) -> Predictions:
    """`predict_sentences` of a detector."""
    refuse_prompt(box_prompt)
    model.eval()
    s = len(sentences)
    out = Predictions(
        sentences, np.zeros((s, 1), np.int32), np.zeros((s, 1), np.float32),
        [np.zeros((0, 2), np.float32)] * s, np.full((s, 4), np.nan, np.float32),
    )  # fmt: skip
    rles: dict[int, Rle] = {}
    with (
        (reporter or SilentReporter()).progress(what, s, unit="sentence") as task,
        autocast(loaded.device, loaded.precision),
    ):
        for group in encoded_groups(loaded, dataset, sentences, batch_images, box_prompt):
            found = find(model, group.memory, group.frames)
            out.tokens[group.rows, 0], out.token_probability[group.rows, 0] = found.query, found.score
            out.boxes_xyxy[group.rows] = found.boxes_xyxy
            for row, ring, rle in zip(group.rows, found.rings, found.rles, strict=False):
                out.points_xy[row], rles[int(row)] = ring, rle
            task.advance(len(group.rows))
    out.rles = [rles[row] for row in sorted(rles)]
    return out


def maps_on_image(
    maps: NDArray[np.float32], frame: Frame, size_hw: tuple[int, int], cell: int = 4
) -> NDArray[np.float32]:
    """Maps (K, h, w) of a window -> maps of the whole image with cells of `cell` pixels, 0 outside the window."""
    height, width = -(-size_hw[0] // cell), -(-size_hw[1] // cell)
    y, x = np.mgrid[:height, :width] * float(cell) + cell / 2
    points = frame.to_model(np.stack((x, y), -1)) / (frame.size_hw[1], frame.size_hw[0])
    inside = ((points >= 0) & (points < 1)).all(-1)
    column = (points[..., 0].clip(0, 0.999999) * maps.shape[2]).astype(np.int64)
    row = (points[..., 1].clip(0, 0.999999) * maps.shape[1]).astype(np.int64)
    return np.asarray(maps[:, row, column] * inside, np.float32)


@torch.inference_mode()
def attention_for_sentences(
    loaded: LoadedModel, dataset: ReferringSource, sentences: NDArray[np.int64], box_prompt: bool = False
) -> list[AttentionSample]:
    """Predictions with attention maps, in the order of `sentences`."""
    model = loaded.model.eval()
    samples: dict[int, AttentionSample] = {}
    if isinstance(model, DetectorModel):
        refuse_prompt(box_prompt)
        for group in encoded_groups(loaded, dataset, sentences, 8, box_prompt):
            found = find(model, group.memory, group.frames, keep_maps=True)
            assert found.maps is not None
            for i, row in enumerate(group.rows):
                vh, vw = (int(v) for v in group.memory.valid_cells_hw[i])
                ring = found.rings[i] if found.rings else np.zeros((0, 2), np.float32)
                query, one_step = found.query[i : i + 1].astype(np.int32), np.zeros(len(ring), np.int64)
                samples[int(row)] = AttentionSample(
                    query, ring, found.boxes_xyxy[i], found.maps[i : i + 1, :vh, :vw], one_step
                )
        return [samples[i] for i in range(len(sentences))]
    layout = model.layout
    slots = list(layout.decoded)
    for group in encoded_groups(loaded, dataset, sentences, 8, box_prompt):
        decoded = model.generate(group.memory, group.prompt, keep_maps=True)
        assert decoded.maps is not None
        h, w = group.memory.grid_hw
        for i, row in enumerate(group.rows):
            tokens = decoded.tokens[i].cpu().numpy()
            ring, box = answer_of(loaded, tokens, group.frames[i])
            vh, vw = (int(v) for v in group.memory.valid_cells_hw[i])
            maps = decoded.maps[i, :, : h * w].reshape(-1, h, w)[:, :vh, :vw].float().cpu().numpy()
            if loaded.config.zoom_margin is not None:
                image = dataset.referent_image[dataset.sentence_referent[sentences[row]]]
                maps = maps_on_image(maps, group.frames[i], tuple(dataset.image_sizes_hw[image]))
            steps = np.array([slots.index(c) for c in layout.contour[: 2 * len(ring) : 2]], np.int64)
            samples[int(row)] = AttentionSample(tokens.astype(np.int32), ring, box, maps, steps)
    return [samples[i] for i in range(len(sentences))]
