"""All masks of one photograph on it, each in a colour of its own, numbered, with the phrases below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import open_artifact
from stages.artifacts.temporary import remove_litter
from stages.artifacts.whole_file import write_whole
from stages.data.dataset import ReferringDataset
from stages.errors import first_of
from stages.figures.layout import captioned
from stages.figures.overlays import Colour, Picture, enlarged, png_bytes, with_box, with_contour, with_mask
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask, stored_rle
from stages.reporter import Reporter

SMALLEST, LARGEST = 480, 1280  # longer side of what is drawn, pixels
# apart for colour-blind readers (Okabe and Ito)
COLOURS: Sequence[tuple[str, Colour]] = (
    ("orange", (230, 159, 0)), ("blue", (86, 180, 233)), ("green", (0, 158, 115)), ("yellow", (240, 228, 66)),
    ("red", (213, 94, 0)), ("pink", (204, 121, 167)),
)  # fmt: skip
_SHOWN = 12  # phrases in a caption


def photograph_figure(
    picture: Picture,
    phrases: Sequence[str],
    masks: Sequence[NDArray[np.bool_]],
    contours: Sequence[NDArray[np.floating]],
    boxes_xyxy: NDArray[np.floating],
) -> Picture:
    """Masks (H, W), contours (P, 2) and boxes (N, 4) of one photograph, in its pixels; a phrase each."""
    drawn, scale = enlarged(picture, min(max(*picture.shape[:2], SMALLEST), LARGEST))
    words = []
    for i, (phrase, mask, contour, box) in enumerate(zip(phrases, masks, contours, boxes_xyxy, strict=True)):
        name, colour = COLOURS[i % len(COLOURS)]
        drawn = with_mask(drawn, mask, colour)
        drawn = with_box(drawn, box, colour, scale=scale)
        drawn = with_contour(drawn, contour, colour, scale=scale)
        words.append(f"{name}: {phrase}")
    return captioned(drawn, "; ".join(first_of(words, _SHOWN)), size=16)


def picture_path(data: ReferringDataset, image: int, folder: Path) -> Path:
    """Where a photograph is drawn."""
    return folder / f"{int(data.image_ids[image]):06d}-{Path(data.image_files[image]).stem[:80]}.png"


def picture_paths(data: ReferringDataset, folder: Path) -> list[Path]:
    """Where all of them are drawn."""
    return [picture_path(data, image, folder) for image in range(len(data.image_ids))]


def draw_photographs(
    dataset: Path, pseudo: Path, folder: Path, reporter: Reporter, *, missing_only: bool
) -> None:
    """A PNG for every photograph that `pseudo` has labels of, with the first phrase of each referent."""
    data = ReferringDataset.open(dataset, masks="none")
    with open_artifact(dataset, "dataset") as source, open_artifact(pseudo, "pseudo_points") as labels:
        labels.require_rows_of(source)
        _, first = np.unique(labels["referent_index"], return_index=True)
        referents = labels["referent_index"][first]
        images = data.referent_image[referents]
        contours = labels.ragged("points_xy")
        masks = labels.ragged("masks/rle") if "masks/rle" in labels else None
        texts = labels["sentence_index"]
        remove_litter(*(picture_path(data, int(image), folder) for image in np.unique(images)))
        with reporter.progress("draw", len(np.unique(images)), unit="picture") as task:
            for image in np.unique(images):
                path = picture_path(data, int(image), folder)
                task.advance()
                if missing_only and path.exists():
                    continue
                here = np.flatnonzero(images == image)
                size = [int(n) for n in data.image_sizes_hw[image]]
                rings = [contours[int(first[i])] for i in here]
                shapes = []
                for i, ring in zip(here, rings, strict=True):
                    counts = masks[int(first[i])].tobytes() if masks is not None else b""
                    rle = stored_rle(counts, size, pseudo) if counts else polygon_to_rle(ring, size)
                    shapes.append(rle_to_mask(rle))
                figure = photograph_figure(
                    data.image(int(image)), [data.texts[int(texts[first[i]])] for i in here],
                    shapes, rings, data.boxes_xyxy[referents[here]],
                )  # fmt: skip
                write_whole(path, png_bytes(figure), tidy=False)
