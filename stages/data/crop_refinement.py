"""Training views of crop refinement: a window round one object, the object perhaps turned or on other ground.

Both need to know the object's shape: only a contour tells the box of a turned object, only a mask can be cut out.
Masks are asked of the dataset's view, which refuses hidden ones.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.data.dataset import ReferringDataset
from stages.data.paste import paste, random_background, soft_edge
from stages.data.transforms import Augmentation, Frame, Image, colour_noise, random_zoom, render, zoom_frame
from stages.data.turn import Turn, random_turn
from stages.errors import UsageError
from stages.geometry.boxes import polygon_extent


@dataclass(frozen=True)
class View:
    """A picture (h, w, 3) for some sentences. With a `turn`, its contour and box are those of the turned object."""

    frame: Frame
    picture: Image
    sentences: NDArray[np.int64]
    turn: Turn | None = None


@dataclass(frozen=True)
class CropRefinement:
    """What is done to objects of known shape beyond `Augmentation`; the neutral values switch it off.

    Attributes:
        rotate: largest angle in degrees. paste: chance of other ground, in [0, 1].
        backgrounds: (I,) int64 images that the ground is taken from; no mask of theirs is looked at.
    """

    rotate: float = 0.0
    paste: float = 0.0
    backgrounds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if self.paste and len(self.backgrounds) < 2:
            raise UsageError(
                f"paste needs at least two training images, got {len(self.backgrounds)}",
                hint="leave --paste out",
            )

    def view(
        self,
        rng: np.random.Generator,
        dataset: ReferringDataset,
        image: Image,
        sentence: int,
        contour_xy: NDArray[np.float32],
        size: int,
        margin: float,
        augmentation: Augmentation,
    ) -> View:
        """A window of `image` round the sentence's object; `contour_xy` (M, 2) is its contour, (0, 2) when unknown."""
        referent = int(dataset.sentence_referent[sentence])
        box = dataset.boxes_xyxy[referent]
        turn = random_turn(rng, contour_xy, box, self.rotate)
        if turn:
            box = polygon_extent(turn.points(contour_xy))
        frame = random_zoom(rng, box, size, margin, augmentation)
        if not frame.shows(box[None]).any():  # moved past a thin object
            frame = zoom_frame(box, size, margin)
        picture = colour_noise(rng, _shown(image, frame, turn), augmentation.colour)
        if self.paste and len(contour_xy) and dataset.mask_visible[referent] and rng.random() < self.paste:
            mask = dataset.mask(referent).astype(np.uint8) * np.uint8(255)
            side = frame.window_xyxy[2] - frame.window_xyxy[0]
            ground = random_background(rng, dataset.image(self._other(rng, dataset, referent)), side, size)
            ground = colour_noise(rng, ground, augmentation.colour)
            picture = paste(picture, soft_edge(_shown(mask, frame, turn)), ground)
        return View(frame, picture, np.array([sentence]), turn)

    def _other(self, rng: np.random.Generator, dataset: ReferringDataset, referent: int) -> int:
        """An image that is not the referent's own, all others equally likely."""
        chosen = int(self.backgrounds[rng.integers(len(self.backgrounds) - 1)])
        own = int(dataset.referent_image[referent])
        return int(self.backgrounds[-1]) if chosen == own else chosen


def _shown(image: Image, frame: Frame, turn: Turn | None) -> Image:
    return turn.render(image, frame) if turn else render(image, frame)
