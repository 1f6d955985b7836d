"""Entries of the release's lists of referents that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.data.release_sample import match_sample
from stages.errors import ArtifactError

ENTRY: dict[str, Any] = {"image_id": 7, "bbox": [10.0, 20.0, 30.0, 40.0], "expressions": ["left man"]}


def matched(entry: Any) -> list[int]:
    found = match_sample(
        [entry],
        where="train",
        rows=np.array([5]),
        image_ids=[7],
        boxes_xyxy=[[10, 20, 40, 60]],
        texts=[["left man"]],
    )
    return [int(row) for row in found]


def test_an_entry_leads_to_its_referent() -> None:
    assert matched(ENTRY) == [5]


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "image_id": float("inf")},
        {**ENTRY, "image_id": 10**400},
        {**ENTRY, "bbox": [10**400, 0, 1, 1]},
        {**ENTRY, "bbox": [float("nan"), 0, 1, 1]},
        {**ENTRY, "bbox": 3},
        [10**5000] * 9,
    ],
    ids=["infinite id", "long id", "long number", "nan", "no box", "no object"],
)
def test_an_odd_entry_is_told_in_a_line(entry: Any) -> None:
    with pytest.raises(ArtifactError, match="1 of the 1 entries of train fit no referent") as caught:
        matched(entry)
    assert len(caught.value.facts) == 1 and len(caught.value.facts[0]) < 200
