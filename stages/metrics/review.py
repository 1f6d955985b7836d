"""A person's decisions applied to pseudo labels: which rows count, what replaces them, and their masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.errors import ArtifactError
from stages.geometry.polygons import resample_polygons
from stages.geometry.projection import projection_scores
from stages.geometry.rasterise import Rle, rle_to_mask
from stages.geometry.resampling import mask_to_points
from stages.metrics.decisions import Decision, require_known
from stages.metrics.selection import Candidates, row_mask


def apply_decisions(
    path: Path, decisions: Mapping[int, Decision], c: Candidates, rows: NDArray[np.int64], dataset: Artifact
) -> tuple[NDArray[np.int64], list[str]]:
    """The rows (K,), with the one that was looked at for accepted referents, and a word a row ("" = no decision).

    The scores of edited contours are those of the contours from now on.

    Raises:
        ArtifactError: a decision about a referent, or an accepted mask, that is not among the candidates.
    """
    assert c.pseudo is not None, "there is something that was decided about"
    require_known(path, decisions, c.referent, f"in {c.pseudo.path}", dataset)
    place = {int(c.referent[row]): i for i, row in enumerate(rows)}
    row_of = {(int(r), int(s)): i for i, (r, s) in enumerate(zip(c.referent, c.sentence, strict=True))}
    rows, words = rows.copy(), [""] * len(rows)
    for referent, decision in decisions.items():
        i = place[referent]
        words[i] = decision.word
        if decision.mask is not None:
            box = c.boxes_xyxy[rows[i]]
            c.score[rows[i]] = projection_scores([decision.mask], box[None])[0]
            c.drawn[rows[i]] = True
        elif decision.verdict == "accept" and decision.sentence is not None:
            if (referent, decision.sentence) not in row_of:
                raise ArtifactError(
                    f"{path} accepts the mask of sentence {decision.sentence}, which {c.pseudo.path} does not have"
                )
            rows[i] = row_of[referent, decision.sentence]
    return rows, words


def contour_points(decision: Decision, n: int) -> NDArray[np.float32]:
    """n points (n, 2) at equal distances on an edited contour (the largest part of several)."""
    assert decision.mask is not None
    if decision.ring_xy is not None:
        size_hw = np.asarray([decision.mask["size"]], np.int64)
        points, found = resample_polygons(decision.ring_xy, np.array([0, len(decision.ring_xy)]), size_hw, n)
        if found[0]:
            return points[0]
    return mask_to_points(rle_to_mask(decision.mask), n)


def accepted_masks(
    decisions: Mapping[int, Decision], c: Candidates | None, rows: NDArray[np.int64]
) -> dict[int, Rle]:
    """Referent -> the mask that a person accepted: the edited one, else the pseudo mask of its row."""
    place = {} if c is None else {int(c.referent[row]): int(row) for row in rows}
    masks: dict[int, Rle] = {}
    for referent, decision in sorted(decisions.items()):
        if decision.mask is not None:
            masks[referent] = decision.mask
        elif decision.verdict == "accept" and c is not None and c.drawn[place[referent]]:
            masks[referent] = row_mask(c, place[referent])
    return masks
