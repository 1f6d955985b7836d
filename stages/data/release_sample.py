"""The release's lists of labelled instances (`instances_sample_1.json`, `_5`, `_10`) -> referents of a dataset.

Such a file has the form of `readers/seqtr.py`: under "train" stand the entries whose mask may be used, under the other
names all entries. The entries have no ids, so they are found again by image, box and, where boxes coincide, by their
expressions. The release itself compares whole dictionaries (ODDITIES C9).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.errors import ArtifactError, first_of
from stages.untrusted import float_of, plain, shown

_SAME_PX = 1.0  # two boxes are the same when no edge differs by more
_DROPPED = re.compile(r"[^0-9a-z]+")
_SHOWN = 10


def match_sample(
    entries: Sequence[Any],
    *,
    where: str,
    rows: NDArray[np.int64],
    image_ids: ArrayLike,
    boxes_xyxy: ArrayLike,
    texts: Sequence[Sequence[str]],
) -> NDArray[np.int64]:
    """The row of each entry, (N,) int64, each row at most once.

    Args:
        where: the list's name for messages.
        rows: (K,) the referents to search, e.g. those of the train split.
        image_ids, boxes_xyxy, texts: of those K referents; boxes (K, 4) in pixels.

    Raises:
        ArtifactError: entries that have another form or that no referent fits; the first ones are listed.
    """
    ids, boxes = np.asarray(image_ids, np.int64), np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    words = [frozenset(map(_plain, said)) for said in texts]
    at_image: dict[int, list[int]] = {}
    for k, image_id in enumerate(ids.tolist()):
        at_image.setdefault(image_id, []).append(k)
    used: set[int] = set()
    found, problems = [], []
    for number, entry in enumerate(entries):
        try:
            image_id, box, said = _read(entry)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            why = plain(f"{type(error).__name__}: {error}", 120)
            problems.append(f"{where}[{number}]: no entry of the release ({why})")
            continue
        same = [k for k in at_image.get(image_id, []) if np.abs(boxes[k] - box).max() <= _SAME_PX]
        near = [k for k in same if k not in used]
        if not near:
            why = "with another box" if image_id in at_image else "not in the dataset"
            problems.append(f"{where}[{number}]: image {shown(image_id)} {'listed twice' if same else why}")
            continue
        best = max(near, key=lambda k: (words[k] == said, len(words[k] & said), -k))
        used.add(best)
        found.append(int(rows[best]))
    if problems:
        raise ArtifactError(
            f"{len(problems)} of the {len(entries)} entries of {where} fit no referent of the dataset",
            facts=first_of(problems, _SHOWN),
            hint="use the list with the data set and split that it was made from",
        )
    return np.array(sorted(found), np.int64)


def _read(entry: Any) -> tuple[int, NDArray[np.float64], frozenset[str]]:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{shown(entry, 40)} is no object")
    x, y, w, h = (float_of(v) for v in entry["bbox"])
    said = entry.get("expressions") or ()
    return int(entry["image_id"]), np.array([x, y, x + w, y + h]), frozenset(_plain(str(s)) for s in said)


def _plain(text: str) -> str:
    """Without case and punctuation, which the sources of the same sentence treat differently."""
    return _DROPPED.sub(" ", text.lower()).strip()
