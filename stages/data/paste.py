"""An object cut out along its mask and pasted on another picture (augmentation of the few masks)."""

import numpy as np
from numpy.typing import NDArray

from stages.data.transforms import Frame, Image, render


def random_background(rng: np.random.Generator, image: Image, side: int, size: int) -> Image:
    """(size, size, 3): a random square of `side` original pixels of an image (its shorter side, if that is less)."""
    height, width = image.shape[:2]
    side = min(side, height, width)
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    return render(image, Frame((left, top, left + side, top + side), (size, size)))


def soft_edge(coverage: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mask as drawn at model size, (h, w) uint8 0..255 -> (h, w) float32 in [0, 1] with an edge of one pixel a side."""
    import cv2

    return np.asarray(cv2.blur((coverage >= 128).astype(np.float32), (3, 3)))


def paste(picture: Image, share: NDArray[np.float32], background: Image) -> Image:
    """Picture (h, w, 3) where `share` (h, w) is 1, background where it is 0, a mixture between."""
    mixed = background + share[..., None] * (picture.astype(np.float32) - background)
    return (mixed + 0.5).astype(np.uint8)
