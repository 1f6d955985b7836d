"""Several objects that one sentence means -> one box and one mask.

The point-sequence model predicts one box and one contour, so that is the most it can be asked for: the hull of the
boxes and the union of the masks. The mask has as many pieces as there are objects; one contour reaches at best the
largest piece, or runs round all of them.
"""

from collections.abc import Sequence

from stages.data.readers.records import Findings
from stages.geometry.rasterise import union_rle

Box = tuple[float, float, float, float]


def hull(boxes_xyxy: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    return (
        min(b[0] for b in boxes_xyxy),
        min(b[1] for b in boxes_xyxy),
        max(b[2] for b in boxes_xyxy),
        max(b[3] for b in boxes_xyxy),
    )


def joined_masks(masks: Sequence[bytes], size_hw: tuple[int, int], findings: Findings) -> bytes:
    """Compressed counts of the union; b"" (box only) unless every object has a mask, because a part would be wrong."""
    if all(masks):
        parts = [{"size": list(size_hw), "counts": m} for m in masks]
        return bytes(union_rle(parts, size_hw)["counts"])
    if any(masks):
        findings.note("referents with several targets, not all of them with a mask, taken as box only")
    return b""
