"""Records of any format become the columns of a dataset, in one order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.data.readers.ids import referent_ids
from stages.data.readers.records import Findings, Record
from stages.data.readers.tables import NoTarget, ReferringTables, ordered_splits
from stages.errors import ArtifactError


def build_tables(
    *,
    name: str,
    by: str,
    source: Path,
    records: Sequence[Record],
    categories: Sequence[tuple[int, str]],
    findings: Findings,
    no_target: Sequence[NoTarget] | None = None,
    content_ids: bool = False,
) -> ReferringTables:
    """The columns, sorted by split, image and referent. `no_target=None`: a format that has no such referents.

    `content_ids`: the source has no ids of referents; they follow from the content (ids.py), and so does the order.

    Raises:
        ArtifactError: no referent, or more splits than a table can hold.
    """
    if not records:
        raise ArtifactError(f"{source} holds no valid referent", facts=findings.shown)
    splits = ordered_splits([r.split for r in records] + [n.split for n in no_target or ()])
    if len(splits) > np.iinfo(np.int8).max:
        raise ArtifactError(f"{source} names {len(splits)} splits", facts=[", ".join(splits[:8]) + " …"])
    place = {split: k for k, split in enumerate(splits)}
    if content_ids:
        records = [replace(r, ref_id=i) for r, i in zip(records, referent_ids(records), strict=True)]
        rows = sorted(
            records,
            key=lambda r: (place[r.split], r.picture.file_name, r.picture.image_id, r.box_xyxy, r.ref_id),
        )
    else:
        rows = sorted(
            records, key=lambda r: (place[r.split], r.picture.image_id, r.picture.file_name, r.ref_id)
        )
    pictures = list({(r.picture.image_id, r.picture.file_name): r.picture for r in rows}.values())
    image_row = {(p.image_id, p.file_name): k for k, p in enumerate(pictures)}
    category_row = {category_id: k for k, (category_id, _) in enumerate(categories)}
    return ReferringTables(
        name=name,
        by=by,
        split_names=splits,
        image_ids=_ints(p.image_id for p in pictures),
        image_files=[p.file_name for p in pictures],
        image_sizes_hw=np.array([p.size_hw for p in pictures], np.int32),
        category_ids=_ints(c for c, _ in categories),
        category_names=[label for _, label in categories],
        ref_ids=_ints(r.ref_id for r in rows),
        ann_ids=_ints(r.ann_id for r in rows),
        image_index=_ints(image_row[r.picture.image_id, r.picture.file_name] for r in rows),
        category_index=_ints(category_row.get(r.category_id, -1) for r in rows).astype(np.int32),
        split=_ints(place[r.split] for r in rows).astype(np.int8),
        boxes_xyxy=np.array([r.box_xyxy for r in rows], np.float64),
        is_crowd=np.array([r.is_crowd for r in rows], np.bool_),
        rles=[r.rle for r in rows],
        sentence_offsets=np.concatenate([[0], np.cumsum([len(r.sentences) for r in rows])]).astype(np.int64),
        sentence_ids=_ints(i for r in rows for i, _ in r.sentences),
        texts=[text for r in rows for _, text in r.sentences],
        notices=findings.notices,
        examples=findings.examples,
        problems=tuple(findings.problems),
        n_targets=None if no_target is None else _ints(r.n_targets for r in rows).astype(np.int32),
        no_target=tuple(no_target or ()),
    )


def _ints(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)
