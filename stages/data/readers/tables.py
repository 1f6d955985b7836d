"""What every reader returns: the columns of a dataset artifact, before the pictures have been looked at.

Letters: I images, C categories, R referents, S sentences. Coordinates xy, pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.packed import Packed

SPLIT_ORDER = ("train", "val", "testA", "testB", "test")


@dataclass(frozen=True)
class SourceFiles:
    """Annotation files: role -> file or files, whose content decides the result; the folder that they lie in or below."""

    name: str
    by: str
    folder: Path
    files: Mapping[str, Path | tuple[Path, ...]]

    def one(self, role: str) -> Path:
        """The only file of a role."""
        path = self.files[role]
        assert isinstance(path, Path)
        return path


@dataclass(frozen=True)
class NoTarget:
    """Sentences that refer to nothing in their image; kept apart, because they have no box to learn or to score."""

    ref_id: int
    image_id: int
    file_name: str
    split: str
    sentences: tuple[tuple[int, str], ...]


@dataclass(frozen=True, eq=False)
class ReferringTables:
    """Referents are sorted by split, image and id; sentences of a referent lie together."""

    name: str
    by: str
    split_names: list[str]
    image_ids: NDArray[np.int64]  # (I,)
    image_files: list[str]  # relative to image_root
    image_sizes_hw: NDArray[np.int32]  # (I, 2)
    category_ids: NDArray[np.int64]  # (C,)
    category_names: list[str]
    ref_ids: NDArray[np.int64]  # (R,)
    ann_ids: NDArray[np.int64]  # (R,)
    image_index: NDArray[np.int64]  # (R,)
    category_index: NDArray[np.int32]  # (R,), -1 = none
    split: NDArray[np.int8]  # (R,), position in split_names
    boxes_xyxy: NDArray[np.float64]  # (R, 4)
    is_crowd: NDArray[np.bool_]  # (R,)
    rles: Packed[bytes]  # R; compressed COCO counts at the image's size, b"" = no mask
    sentence_offsets: NDArray[np.int64]  # (R+1,)
    sentence_ids: NDArray[np.int64]  # (S,)
    texts: Packed[str]  # S
    image_root: Path | None = None
    notices: dict[str, int] = field(default_factory=dict)  # what was left out or repaired -> how often
    examples: dict[str, list[str]] = field(default_factory=dict)  # notice -> where the first of them are
    problems: tuple[str, ...] = ()  # of the entries that were left out as invalid, all of them
    n_targets: NDArray[np.int32] | None = None  # (R,) objects in one box and mask; None = always one
    no_target: tuple[NoTarget, ...] = ()

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        return self.rles.lengths > 0

    @property
    def sentence_referent(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.ref_ids), dtype=np.int64), np.diff(self.sentence_offsets))

    def counts(self) -> dict[str, dict[str, int]]:
        """Per split: images, referents, sentences, with_mask; where there can be several or no targets, also those."""
        n_sentences, masked = np.diff(self.sentence_offsets), self.has_mask
        table = {}
        for k, name in enumerate(self.split_names):
            rows = self.split == k
            table[name] = {
                "images": len(np.unique(self.image_index[rows])),
                "referents": int(rows.sum()),
                "sentences": int(n_sentences[rows].sum()),
                "with_mask": int((rows & masked).sum()),
            }
            if self.n_targets is not None:
                nothing = [len(n.sentences) for n in self.no_target if n.split == name]
                table[name] |= {
                    "several_targets": int((rows & (self.n_targets > 1)).sum()),
                    "no_target": len(nothing),
                    "no_target_sentences": sum(nothing),
                }
        return table

    def without_images(self, missing: Sequence[int]) -> ReferringTables:
        """The tables without some images (rows of the image table) and everything that hangs on them."""
        kept_image = np.ones(len(self.image_ids), np.bool_)
        kept_image[list(missing)] = False
        new_index = np.cumsum(kept_image) - 1
        kept = kept_image[self.image_index]
        said = kept[self.sentence_referent]
        lengths = np.diff(self.sentence_offsets)[kept]
        return replace(
            self,
            image_ids=self.image_ids[kept_image],
            image_files=[f for f, k in zip(self.image_files, kept_image, strict=True) if k],
            image_sizes_hw=self.image_sizes_hw[kept_image],
            ref_ids=self.ref_ids[kept],
            ann_ids=self.ann_ids[kept],
            image_index=new_index[self.image_index[kept]].astype(np.int64),
            category_index=self.category_index[kept],
            split=self.split[kept],
            boxes_xyxy=self.boxes_xyxy[kept],
            is_crowd=self.is_crowd[kept],
            rles=self.rles.take(kept),
            sentence_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            sentence_ids=self.sentence_ids[said],
            texts=self.texts.take(said),
            n_targets=None if self.n_targets is None else self.n_targets[kept],
        )


def ordered_splits(names: Sequence[str]) -> list[str]:
    """The split names that occur: known ones in their usual order, then the others by name."""
    present = set(names)
    return [s for s in SPLIT_ORDER if s in present] + sorted(present - set(SPLIT_ORDER))
