"""decisions.json: what a person decided about pseudo masks, on the review page or in an annotation tool.

{"format": "seqres-decisions", "version": 1, "dataset_digest": "…", "pseudo_digest": "…",
 "decisions": [{"ref_id": 12, "referent_index": 3, "sentence_index": 7, "verdict": "accept"},
               {"ref_id": 13, "polygon": [[x, y], …]}]}

`verdict` is accept, reject or unsure; an edited contour (`polygon`, or `segmentation` as COCO writes it: polygons or run
lengths, pixels of the original picture) takes the place of the pseudo contour and means accept. `pseudo_digest` may be
absent from a file written by hand or by a tool; the indices may be absent, too. The file is not trusted: size, types,
ids and coordinates are checked before anything is done with it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.errors import ArtifactError, listed
from stages.geometry.rasterise import Rle, checked_rle, polygon_to_rle, rle_area, rle_from_segmentation
from stages.untrusted import plain, shown

FORMAT, VERSION = "seqres-decisions", 1
Verdict = Literal["accept", "reject", "unsure"]
VERDICTS: tuple[Verdict, ...] = ("accept", "reject", "unsure")
_LARGEST = 64 << 20  # bytes of a file
_MOST_NUMBERS = 40_000  # coordinates or runs of one contour
_OUTSIDE = 2.0  # pixels that an edited point may lie outside its picture; tools round
_SHOWN = 10


@dataclass(frozen=True)
class Decision:
    """About one referent. `mask` is the edited one; `ring_xy` (P, 2) its points where it is a single polygon."""

    verdict: Verdict
    sentence: int | None = None  # whose mask was looked at, row of the dataset's sentences
    mask: Rle | None = None
    ring_xy: NDArray[np.float64] | None = None

    @property
    def word(self) -> str:
        """As it stands in artifacts."""
        if self.mask is not None:
            return "corrected"
        return {"accept": "accepted", "reject": "rejected", "unsure": "unsure"}[self.verdict]


def read_decisions(path: Path, dataset: Artifact, pseudo: Artifact | None = None) -> dict[int, Decision]:
    """Referent (row of the dataset) -> decision.

    Raises:
        ArtifactError: the file cannot be read, has another form, was made from another dataset or (where `pseudo` is
            given and the file names one) about other pseudo masks, or names a referent that does not exist.
    """
    content = _content(path)
    _require_source(path, content, "dataset_digest", dataset)
    if pseudo is not None and content.get("pseudo_digest") is not None:
        _require_source(path, content, "pseudo_digest", pseudo)
    entries = content.get("decisions")
    if not isinstance(entries, list):
        raise ArtifactError(f"{path} has no list of decisions", hint=_HINT)
    ids = dataset["referents/ref_id"].tolist()
    rows = {ref_id: row for row, ref_id in enumerate(ids)}
    sizes = dataset.referent_sizes_hw()
    offsets = dataset["referents/sentence_offsets"].tolist()
    found: dict[int, Decision] = {}
    for i, entry in enumerate(entries):
        where = f"{path}, decision {i + 1}"
        if not isinstance(entry, dict):
            _wrong(where, "is no object", entry)
        ref_id = _whole(where, entry, "ref_id")
        if ref_id not in rows:
            _wrong(where, f"names ref_id {ref_id}, which {dataset.path} does not have")
        referent = rows[ref_id]
        if (given := _whole(where, entry, "referent_index", optional=True)) not in (None, referent):
            _wrong(where, f"names referent_index {given}, but ref_id {ref_id} is row {referent}")
        if referent in found:
            _wrong(where, f"names ref_id {ref_id} a second time")
        sentence = _whole(where, entry, "sentence_index", optional=True)
        if sentence is not None and not offsets[referent] <= sentence < offsets[referent + 1]:
            _wrong(where, f"names sentence_index {sentence}, which is none of ref_id {ref_id}")
        mask, ring = _edited(where, entry, (int(sizes[referent][0]), int(sizes[referent][1])))
        found[referent] = Decision(_verdict(where, entry, mask is not None), sentence, mask, ring)
    return found


def require_known(
    path: Path, decisions: Mapping[int, Decision], known: NDArray[Any], what: str, dataset: Artifact
) -> None:
    """ArtifactError unless all referents with a decision are among `known` (rows of the dataset)."""
    beyond = sorted(set(decisions) - set(np.asarray(known).tolist()))
    if beyond:
        ids = dataset["referents/ref_id"][beyond].tolist()
        raise ArtifactError(
            f"{path} decides about {len(beyond)} referents that are not {what}",
            facts=[f"ref_id {listed(ids, _SHOWN)}"],
            hint="use the decisions with the files that their page was made from",
        )


_HINT = "take the file that the review page downloads (seqres report), or write it like that"


def _content(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON number")

    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise ArtifactError(f"no such file: {path}", facts=["needed as decisions"]) from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    if len(data) > _LARGEST:
        raise ArtifactError(f"{path} is larger than {_LARGEST >> 20} MiB, which no decisions are", hint=_HINT)
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no valid JSON", facts=[str(error)[:120]], hint=_HINT) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} is no file of decisions", facts=[f'its "format" is not {FORMAT!r}'], hint=_HINT
        )
    version = content.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{path} has version {shown(version, 20)} of its format, this seqres reads {VERSION}"
        )
    return content


def _require_source(path: Path, content: Mapping[str, Any], key: str, source: Artifact) -> None:
    digest = content.get(key)
    if digest != source.digest:
        raise ArtifactError(
            f"{path} was not decided about {source.path}",
            facts=[f"{key} {str(digest)[:12]} in the decisions, {source.digest[:12]} in {source.path}"],
            hint="use the decisions with the files that their page was made from, or review these: seqres report",
        )


def _whole(where: str, entry: Mapping[str, Any], key: str, *, optional: bool = False) -> int | None:
    value = entry.get(key)
    if value is None and optional:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        _wrong(where, f"{key} must be a whole number", value)
    return value


def _verdict(where: str, entry: Mapping[str, Any], edited: bool) -> Verdict:
    value = entry.get("verdict", "accept" if edited else None)
    if value not in VERDICTS:
        _wrong(where, f"verdict must be one of {', '.join(VERDICTS)}", value)
    if edited and value != "accept":
        _wrong(where, f"has an edited contour and the verdict {value}; a contour means accept")
    verdict: Verdict = value
    return verdict


def _edited(
    where: str, entry: Mapping[str, Any], size_hw: tuple[int, int]
) -> tuple[Rle | None, NDArray[np.float64] | None]:
    polygon, segmentation = entry.get("polygon"), entry.get("segmentation")
    if polygon is None and segmentation is None:
        return None, None
    if polygon is not None and segmentation is not None:
        _wrong(where, "has a polygon and a segmentation; give one of them")
    ring = None
    if polygon is not None:
        ring = _ring(where, polygon, size_hw)
    elif isinstance(segmentation, list):
        parts = [segmentation] if segmentation and not isinstance(segmentation[0], list) else segmentation
        rings = [_ring(where, part, size_hw, flat=True) for part in parts]
        ring = rings[0] if len(rings) == 1 else None
        segmentation = [r.reshape(-1).tolist() for r in rings]
    elif isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if not isinstance(counts, str | list) or len(counts) > 4 * _MOST_NUMBERS:
            _wrong(where, "counts of a segmentation must be a text or a list of run lengths", counts)
        if isinstance(counts, list) and not all(type(v) is int for v in counts):
            _wrong(where, "counts of a segmentation must be whole numbers")
    else:
        _wrong(where, "segmentation must be polygons or run lengths", segmentation)
    try:
        if ring is not None:
            mask = polygon_to_rle(ring, size_hw)
        elif isinstance(segmentation, dict):
            mask = checked_rle(segmentation, size_hw)
        else:
            mask = rle_from_segmentation(segmentation, size_hw)
    except ArtifactError as error:
        _wrong(where, error.message)
    if rle_area(mask) == 0:
        _wrong(where, "has a contour that covers no pixel of its picture")
    return mask, ring


def _ring(where: str, value: Any, size_hw: tuple[int, int], *, flat: bool = False) -> NDArray[np.float64]:
    """(P, 2) points inside the picture from [[x, y], …] (or x, y, x, y, …)."""
    pairs = value
    if flat and isinstance(value, list):
        pairs = [value[i : i + 2] for i in range(0, len(value), 2)]
    if not isinstance(pairs, list) or not 3 <= len(pairs) <= _MOST_NUMBERS // 2:
        _wrong(where, f"a contour must be a list of 3 to {_MOST_NUMBERS // 2} points", value)
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
            _wrong(where, "a point of a contour must be two numbers", pair)
    points = np.asarray(pairs, np.float64)
    size_wh = np.array([size_hw[1], size_hw[0]], np.float64)
    outside = ((points < -_OUTSIDE) | (points > size_wh + _OUTSIDE)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        _wrong(
            where, f"has the point ({x:g}, {y:g}), outside its picture of {size_hw[1]}x{size_hw[0]} pixels"
        )
    return np.clip(points, 0, size_wh)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e9
        and math.isfinite(value)
    )


def _wrong(where: str, what: str, value: Any = None) -> NoReturn:
    got = "" if value is None else f", got {plain(value)!r}"
    raise ArtifactError(f"{where} {what}{got}", hint=_HINT)
