"""Encode an image once for all of its expressions, or a window of it around each box (crop refinement).

The order of the expressions in a batch, and what else is in it, does not change a result.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.transforms import Frame, on_canvas, plain_frame, render, zoom_frame
from stages.errors import ArtifactError
from stages.inference.answers import EncodedGroup
from stages.inference.devices import autocast
from stages.inference.families import answers_of
from stages.inference.picture_groups import picture_groups
from stages.models.image_maps import VisionMaps, normalise
from stages.models.to_device import to_device
from stages.weights.model_file import LoadedModel

Load = Callable[[int], NDArray[np.uint8]]  # position of a picture -> (H, W, 3) RGB
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


def encoded_groups(
    loaded: LoadedModel,
    dataset: ReferringSource,
    sentences: NDArray[np.int64],
    batch_images: int,
    box_prompt: bool,
    groups: Sequence[NDArray[np.int64]] | None = None,
) -> Iterator[EncodedGroup]:
    """Memories of the sentences, view by view; sentences that share a view share its encoding.

    groups: rows of `sentences` that are computed together, if not all of them in `picture_groups`.
    """
    images = dataset.referent_image[dataset.sentence_referent[sentences]]
    # a picture is decoded once for all of its windows
    load = functools.lru_cache(batch_images)(dataset.image)
    for rows in picture_groups(images, batch_images) if groups is None else groups:
        for group in _encoded(loaded, dataset, load, sentences[rows], batch_images, box_prompt):
            group.rows = rows[group.rows]
            yield group


def _encoded(
    loaded: LoadedModel,
    dataset: ReferringSource,
    load: Load,
    sentences: NDArray[np.int64],
    batch_images: int,
    box_prompt: bool,
) -> Iterator[EncodedGroup]:
    """The sentences about one group of pictures, at most `batch_images` views at a time."""
    referents = dataset.sentence_referent[sentences]
    images = dataset.referent_image[referents]
    boxes = dataset.boxes_xyxy[referents] if box_prompt else None
    if loaded.config.zoom_margin is None:
        views, windows = images, None
    elif boxes is not None:
        views, windows = referents, boxes
    else:
        views, windows = np.arange(len(sentences)), _located(loaded, dataset, load, sentences, batch_images)
    order = np.lexsort((views, images))
    first = np.flatnonzero(np.diff(views[order], prepend=-1))
    bounds = np.append(first, len(order))
    limit = batch_images * SENTENCES_AT_ONCE
    for k in range(0, len(first), batch_images):
        n = min(batch_images, len(first) - k)
        shown = order[bounds[k : k + n]]
        frames, vision = _encode_views(
            loaded, load, images[shown], None if windows is None else windows[shown]
        )
        rows, view = order[bounds[k] : bounds[k + n]], np.repeat(np.arange(n), np.diff(bounds[k : k + n + 1]))
        for part in range(0, len(rows), limit):
            here, at = rows[part : part + limit], view[part : part + limit]
            words, mask = map(
                torch.from_numpy, loaded.codec.encode([dataset.texts[s] for s in sentences[here]])
            )
            text = loaded.model.encode_text(to_device(words, loaded.device), mask)
            owner = to_device(torch.from_numpy(at), loaded.device)
            memory = loaded.model.fuse(vision, owner, text)
            prompt = None if boxes is None else boxes[here]
            yield EncodedGroup(here, sentences[here], memory, [frames[i] for i in at], prompt)


def _encode_views(
    loaded: LoadedModel, load: Load, images: NDArray[np.int64], windows_xyxy: NDArray[np.floating] | None
) -> tuple[list[Frame], VisionMaps]:
    """Whole images (V,), or the windows around boxes (V, 4) of them."""
    config, pictures, frames = loaded.config, [], []
    for v, image in enumerate(images):
        picture = load(int(image))
        if windows_xyxy is None or config.zoom_margin is None:
            frames.append(plain_frame(picture.shape[0], picture.shape[1], config.image.size))
        else:
            frames.append(zoom_frame(windows_xyxy[v], config.image.size, config.zoom_margin))
        pictures.append(render(picture, frames[-1]))
    canvas = on_canvas(pictures, config.image.multiple)
    sizes = torch.tensor([f.size_hw for f in frames])
    pixels = to_device(torch.from_numpy(canvas).permute(0, 3, 1, 2), loaded.device)
    return frames, loaded.model.encode_images(normalise(pixels, sizes, config), sizes)


def _located(
    loaded: LoadedModel, dataset: ReferringSource, load: Load, sentences: NDArray[np.int64], batch_images: int
) -> NDArray[np.float32]:
    """(S, 4) boxes of the locator that comes with a model of crop refinement, for one group of pictures."""
    locator = loaded.locator
    if locator is None:
        raise ArtifactError("the model predicts in a window around the box, but has no locator to find it")
    answers, boxes = answers_of(locator), np.zeros((len(sentences), 4), np.float32)
    with autocast(locator.device, locator.precision):
        for group in _encoded(locator, dataset, load, sentences, batch_images, False):
            boxes[group.rows] = answers.answer(group).boxes_xyxy
    return boxes
