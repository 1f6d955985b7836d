"""The tensors of one training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.to_device import to_device

# What decides which work a step has to do; a step that reads it from the device waits for all that the device still does
ON_HOST = ("sizes_hw", "word_mask", "mask_weight")
_SMALL = 1 << 16  # bytes of a tensor that costs less in a pipe than in shared memory


@dataclass
class Batch:
    """One training step. I images, S sentences, L words, T slots.

    `to` leaves sizes_hw, word_mask and mask_weight on the host, where the model asks for them first.

    Attributes:
        images: (I, 3, H, W) uint8 RGB, channels last in memory as they were decoded, padding 0; sizes_hw: (I, 2) int64 pixels that are image.
        image_of_sentence: (S,) int64; words: (S, L) int64; word_mask: (S, L) bool.
        targets: (S, T) int64; slot_weights: (S, T) float32; slot_count: () float32, the sum of the slot weights as if
            every known contour had weight 1; None = their sum as it is.
        boxes: (S, 4) float32 xyxy, model pixels.
        masks: (S, H, W) bool on the canvas, False where none is known; mask_weight: (S,) float32, 0 = unknown.
            Only for models that answer with masks or learn the contour's inside; (S, 0, 0) and zeros otherwise.
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

    @classmethod
    def of_arrays(cls, **arrays: NDArray[Any]) -> Batch:
        """Tensors on the arrays' own memory, with their strides."""
        return cls(**{n: torch.from_numpy(np.asarray(a)) for n, a in arrays.items()})

    def to(self, device: torch.device) -> Batch:
        return self._each(lambda part: to_device(part, device), but=ON_HOST)

    def pin_memory(self) -> Batch:
        """What a loader with `pin_memory=True` calls, so that `to` runs beside the step before."""
        return self._each(Tensor.pin_memory)

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[dict[str, Any]]]:
        """From a worker: every tensor in shared memory costs both sides a connection, so small ones go as numbers."""
        return _received, (self._parts(lambda part: part.numpy() if part.nbytes <= _SMALL else part),)

    def _each(self, change: Callable[[Tensor], Tensor], but: tuple[str, ...] = ()) -> Batch:
        return Batch(**self._parts(change, but))

    def _parts(self, change: Callable[[Tensor], Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {n: part if part is None or n in but else change(part) for n, part in parts.items()}


def _received(parts: dict[str, Any]) -> Batch:
    return Batch(**{n: torch.from_numpy(p) if isinstance(p, np.ndarray) else p for n, p in parts.items()})
