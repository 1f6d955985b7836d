"""Polygons in every nesting that tools write are one polygon; what is none is refused, never taken for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.errors import ArtifactError
from stages.geometry.rasterise import rle_area, rle_from_segmentation
from stages.geometry.segmentations import polygon_rings

SIZE = (24, 32)
FLAT = [4, 3, 20, 3, 20, 13, 4, 13]
PAIRS = [[4, 3], [20, 3], [20, 13], [4, 13]]


@pytest.mark.parametrize(
    "form",
    [
        FLAT,
        [FLAT],
        [[FLAT]],
        [str(v) for v in FLAT],
        PAIRS,
        [PAIRS],
        [[PAIRS]],
        [[point] for point in PAIRS],
        [[[point] for point in PAIRS]],
        np.array(PAIRS),
        [np.array(PAIRS, np.int32).reshape(-1, 1, 2)],
        [{"x": x, "y": y} for x, y in PAIRS],
        [[{"x": x, "y": y} for x, y in PAIRS]],
        {"points": PAIRS, "shape_type": "polygon", "label": "cup"},
        {"points": [PAIRS[0], PAIRS[2]], "shape_type": "rectangle"},
        [{"points": PAIRS}],
        {"name": "polygon", "all_points_x": FLAT[::2], "all_points_y": FLAT[1::2]},
    ],
    ids=lambda form: str(form)[:40],
)
def test_every_nesting_is_the_same_polygon(form: Any) -> None:
    assert [ring.tolist() for ring in polygon_rings(form)] == [PAIRS]
    assert rle_area(rle_from_segmentation(form, SIZE)) == 160


def test_several_polygons_stay_several() -> None:
    triangle = [[22, 2], [30, 2], [30, 10]]
    assert [len(r) for r in polygon_rings([PAIRS, triangle])] == [4, 3]
    assert [len(r) for r in polygon_rings([FLAT, [22, 2, 30, 2, 30, 10]])] == [4, 3]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([[4, 3], [20, 3], [20, 13, 7]], "even number of coordinates, got 3"),
        ([4, 3, 20, None, 20, 13], "got 'None'"),
        ([[4, 3], [20, "left"], [20, 13]], "got 'left'"),
        ([[4, 3], [20, float("nan")], [20, 13]], "NaN or infinite"),
        ({"type": "Polygon", "coordinates": [PAIRS]}, "got an object with type, coordinates"),
        ({"points": PAIRS, "shape_type": "linestrip"}, "'linestrip' is no polygon"),
        ([[[[[[[[PAIRS]]]]]]]], "must be a list of coordinates"),
        ([0.1, 0.1, 0.6, 0.1, 0.6, 0.5], "not shares of the picture"),
        ({"size": [24, 32], "counts": [700.5, 67.5]}, "must be whole numbers"),
        ({"size": [32, 24], "counts": [768]}, "it is written as width, height"),
        ({"format": "rle", "rle": [0, 1, 2]}, "Label Studio"),
    ],
)
def test_what_is_no_polygon_is_refused(form: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        rle_from_segmentation(form, SIZE)
