"""Records of any format become the columns of a dataset, in one order."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.packed import Packing
from stages.artifacts.ragged import offsets_of, spans
from stages.data.readers.ids import referent_ids
from stages.data.readers.records import Findings, Record
from stages.data.readers.table_file import Table
from stages.data.readers.tables import NoTarget, ReferringTables, SourceFiles, ordered_splits
from stages.errors import ArtifactError


class RecordColumns:
    """Records as columns: some hundred bytes each, where a `Record` takes thousands."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Takes one record after the other."""
        self.ref_ids, self.ann_ids, self.category_ids, self.sentence_ids = (array("q") for _ in range(4))
        self.pictures: dict[tuple[int, str], int] = {}  # (image id, file name) -> its place here
        self.sizes_hw = array("i")
        self.picture, self.split, self.n_sentences, self.n_targets = (array("i") for _ in range(4))
        self.splits: dict[str, int] = {}
        self.boxes = array("d")
        self.is_crowd = array("b")
        self._rles, self._texts = Packing(bytes), Packing(str)
        for record in records:
            self._add(record)
        self.rles, self.texts = self._rles.packed(), self._texts.packed()

    def __len__(self) -> int:
        return len(self.ref_ids)

    def _add(self, record: Record) -> None:
        self.ref_ids.append(record.ref_id)
        self.ann_ids.append(record.ann_id)
        self.category_ids.append(record.category_id)
        self.n_targets.append(record.n_targets)
        key = (record.picture.image_id, record.picture.file_name)
        if key not in self.pictures:
            self.sizes_hw.extend(record.picture.size_hw)
        self.picture.append(self.pictures.setdefault(key, len(self.pictures)))
        self.split.append(self.splits.setdefault(record.split, len(self.splits)))
        self.boxes.extend(record.box_xyxy)
        self.is_crowd.append(record.is_crowd)
        self._rles.append(record.rle)
        self.n_sentences.append(len(record.sentences))
        for identity, text in record.sentences:
            self.sentence_ids.append(identity)
            self._texts.append(text)

    def order(self, split: NDArray[np.int64], *, by_name: bool) -> NDArray[np.int64]:
        """Rows sorted by split, picture (by name, else by id) and referent, then by box where there are no own ids."""
        names = {name: k for k, name in enumerate(sorted({name for _, name in self.pictures}))}
        name, image_id = (
            _ints(values)[_ints(self.picture)]
            for values in ((names[n] for _, n in self.pictures), (i for i, _ in self.pictures))
        )
        ids = _ints(self.ref_ids)
        if not by_name:
            return np.lexsort((ids, name, image_id, split))
        x1, y1, x2, y2 = np.frombuffer(self.boxes, np.float64).reshape(-1, 4).T
        return np.lexsort((ids, y2, x2, y1, x1, image_id, name, split))


def build_tables(
    files: SourceFiles | Table,
    source: Path,
    records: Sequence[Record] | RecordColumns,
    categories: Sequence[tuple[int, str]],
    findings: Findings,
    *,
    no_target: Sequence[NoTarget] | None = None,
    content_ids: bool = False,
) -> ReferringTables:
    """The columns, sorted by split, image and referent. `no_target=None`: a format that has no such referents.

    `content_ids`: the source has no ids of referents; they follow from the content (ids.py), and so does the order.

    Raises:
        ArtifactError: no referent, or more splits than a table can hold.
    """
    if not len(records):
        raise ArtifactError(f"{source} holds no valid referent", facts=findings.shown)
    if not isinstance(records, RecordColumns):
        if content_ids:
            records = [replace(r, ref_id=i) for r, i in zip(records, referent_ids(records), strict=True)]
        records = RecordColumns(records)
    splits = ordered_splits([*records.splits, *(n.split for n in no_target or ())])
    if len(splits) > np.iinfo(np.int8).max:
        raise ArtifactError(f"{source} names {len(splits)} splits", facts=[", ".join(splits[:8]) + " …"])
    split = _ints(splits.index(s) for s in records.splits)[_ints(records.split)]
    rows = records.order(split, by_name=content_ids)
    picture = _ints(records.picture)[rows]
    _, first = np.unique(picture, return_index=True)
    shown = picture[np.sort(first)]  # pictures in the order of their first referents
    image_row = np.zeros(len(records.pictures), np.int64)
    image_row[shown] = np.arange(len(shown))
    pictures = list(records.pictures)
    category_row = {category_id: k for k, (category_id, _) in enumerate(categories)}
    n_sentences = _ints(records.n_sentences)
    said = spans(offsets_of(n_sentences)[:-1][rows], n_sentences[rows])
    return ReferringTables(
        name=files.name,
        by=files.by,
        split_names=splits,
        image_ids=_ints(pictures[k][0] for k in shown),
        image_files=[pictures[k][1] for k in shown],
        image_sizes_hw=np.array(records.sizes_hw, np.int32).reshape(-1, 2)[shown],
        category_ids=_ints(c for c, _ in categories),
        category_names=[label for _, label in categories],
        ref_ids=_ints(records.ref_ids)[rows],
        ann_ids=_ints(records.ann_ids)[rows],
        image_index=image_row[picture],
        category_index=_ints(category_row.get(c, -1) for c in records.category_ids)[rows].astype(np.int32),
        split=split[rows].astype(np.int8),
        boxes_xyxy=np.frombuffer(records.boxes, np.float64).reshape(-1, 4)[rows],
        is_crowd=np.frombuffer(records.is_crowd, np.bool_)[rows],
        rles=records.rles.take(rows),
        sentence_offsets=offsets_of(n_sentences[rows]),
        sentence_ids=_ints(records.sentence_ids)[said],
        texts=records.texts.take(said),
        notices=findings.notices,
        examples=findings.examples,
        problems=tuple(findings.problems),
        n_targets=None if no_target is None else _ints(records.n_targets)[rows].astype(np.int32),
        no_target=tuple(no_target or ()),
    )


def _ints(values: Iterable[int]) -> NDArray[np.int64]:
    if isinstance(values, array) and values:  # its own memory, where it is of that kind
        return np.frombuffer(values, values.typecode).astype(np.int64, copy=False)
    return np.fromiter(values, np.int64)
