"""Ids that follow from what they name, for sources that have none: sorting a list, adding lines to it, editing a
phrase or drawing a mask keeps them.

A referent is its picture and its box. Only where several share both, the split (the first one keeps the plain id),
then the mask, then the sentences tell them apart.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.readers.records import Record
from stages.data.readers.tables import ReferringTables, ordered_splits

# Eleven digits: the most that spreadsheets show, and so save, as they are.
_FIRST, _COUNT = 10**10, 9 * 10**10

Key = tuple[Any, ...]


def content_id(*what: Any, salt: int = 0) -> int:
    """An id in [10^10, 10^11) that follows from `what` (anything JSON can hold)."""
    text = json.dumps([*what, *([salt] if salt else [])], ensure_ascii=True)
    return _FIRST + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % _COUNT


def distinct_ids(keys: Sequence[Key]) -> list[int]:
    """The id of each key, different for different keys, whatever their order."""
    found: dict[Key, int] = {}
    taken: set[int] = set()
    for key in sorted(set(keys), key=repr):
        salt = 0
        while (identity := content_id(*key, salt=salt)) in taken:
            salt += 1
        taken.add(identity)
        found[key] = identity
    return [found[key] for key in keys]


def sentence_ids(tables: ReferringTables) -> NDArray[np.int64]:
    """(S,) an id for each sentence, from its referent and text."""
    said = zip(tables.ref_ids[tables.sentence_referent].tolist(), tables.texts, strict=True)
    return np.array(distinct_ids([("sentence", *pair) for pair in said]), np.int64)


def referent_ids(records: Sequence[Record]) -> list[int]:
    """The id of each record, all different."""
    place = {split: k for k, split in enumerate(ordered_splits([r.split for r in records]))}

    def whose(record: Record) -> Key:
        return record.picture.file_name, *(f"{v:.3f}" for v in record.box_xyxy)

    keys: dict[int, Key] = {}
    for base, same in _groups(range(len(records)), lambda i: whose(records[i])):
        for k, (_, here) in enumerate(_groups(same, lambda i: place[records[i].split])):
            key = base if k == 0 else (*base, "split", records[here[0]].split)
            keys.update(_tell_apart(records, here, key))
    return distinct_ids([keys[i] for i in range(len(records))])


def _tell_apart(records: Sequence[Record], rows: Sequence[int], key: Key) -> dict[int, Key]:
    """Keys of records of one picture, box and split: by what first differs."""
    keys = dict.fromkeys(rows, key)
    aspects: list[tuple[str, Callable[[int], Any]]] = [
        ("mask", lambda i: hashlib.sha256(records[i].rle).hexdigest()),
        ("sentences", lambda i: sorted(text for _, text in records[i].sentences)),
    ]
    for name, aspect in aspects:
        for _, same in _groups(rows, lambda i: keys[i]):
            if len(same) > 1 and len({repr(aspect(i)) for i in same}) > 1:
                keys.update({i: (*keys[i], name, repr(aspect(i))) for i in same})
    for _, same in _groups(rows, lambda i: keys[i]):
        keys.update({i: (*keys[i], "repeated", k) for k, i in enumerate(same) if k})
    return keys


def _groups(rows: Sequence[int], by: Callable[[int], Any]) -> list[tuple[Any, list[int]]]:
    found: dict[Hashable, list[int]] = {}
    for row in rows:
        found.setdefault(by(row), []).append(row)
    return sorted(found.items(), key=lambda item: item[0])
