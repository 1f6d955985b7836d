"""A read-only view over a dataset artifact, and the one gate to its masks.

`masks="none"` hides every mask, `"split"` shows of the train split only what a split artifact allows (other splits
show what they have), `"all"` shows everything. The bytes of a hidden mask are never read. `"training"` is `"split"` and
the pseudo masks that a person accepted, which the split artifact carries: good enough to learn from, no truth to score by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact, open_artifact
from stages.artifacts.provenance import stored_path
from stages.artifacts.schema import LARGEST_PICTURE
from stages.data.images import decode_rgb, path_below
from stages.errors import ArtifactError, HiddenMaskError, UsageError, nearest_hint
from stages.geometry.rasterise import rle_to_mask, stored_rle
from stages.untrusted import shown

MaskAccess = Literal["none", "split", "training", "all"]


class ReferringDataset:
    """Tables of a dataset artifact in memory; images and masks read on demand; safe under worker processes.

    Attributes (R referents, S sentences, I images):
        split_names: list of str; image_ids (I,) int64; image_sizes_hw (I, 2) int64; image_files: list of str.
        referent_image (R,) int64; referent_split (R,) int8; ref_ids (R,) int64; category_index (R,) int64.
        boxes_xyxy (R, 4) float64, pixels of the original image; has_mask (R,) bool.
        mask_visible (R,) bool: whose mask this view may read.
        sentence_referent (S,) int64; sentence_offsets (R+1,) int64; texts: list of str.
    """

    def __init__(
        self,
        path: Path,
        mask_visible: NDArray[np.bool_] | None,
        access: MaskAccess,
        accepted: dict[int, bytes] | None = None,
    ) -> None:
        a = self._artifact = open_artifact(path, kind="dataset")
        self.path, self.digest, self.access = Path(path), a.digest, access
        self.split_names = split_names_of(a)
        self.image_ids = a["images/id"]
        self.image_sizes_hw = np.stack((a["images/height"], a["images/width"]), 1).astype(np.int64)
        self.image_files = a.strings("images/file_name")
        self.referent_image = a["referents/image_index"]
        self.referent_split = a["referents/split"]
        self.ref_ids = a["referents/ref_id"]
        self.category_index = a["referents/category_index"]
        self.categories = a.strings("categories/name")
        self.boxes_xyxy = a["referents/box_xyxy"]
        _require_possible(a, self)
        self.has_mask = a["referents/has_mask"].astype(np.bool_)
        self.sentence_referent = a["sentences/referent_index"]
        self.sentence_offsets = a["referents/sentence_offsets"]
        self.texts = a.strings("sentences/text")
        self._image_root = str(a.attrs.get("image_root", ""))
        self._encoded = a.ragged("images/encoded") if "images/encoded" in a else None
        self._masks = a.ragged("masks/rle")
        if access == "all":
            self.mask_visible = self.has_mask.copy()
        elif access == "none":
            self.mask_visible = np.zeros_like(self.has_mask)
        else:
            assert mask_visible is not None
            self.mask_visible = mask_visible & self.has_mask
        self._accepted = accepted or {}
        self.mask_visible[list(self._accepted)] = True

    @classmethod
    def open(cls, path: Path, *, split: Path | None = None, masks: MaskAccess = "none") -> ReferringDataset:
        """Open a dataset; `masks="split"` and `"training"` need the split artifact.

        Raises ArtifactError when either file is missing, damaged, of another kind, or the split was made from
        another dataset.
        """
        if masks not in ("split", "training"):
            return cls(Path(path), None, masks)
        if split is None:
            raise UsageError(f"masks={masks!r} needs a split artifact")
        with open_artifact(path, kind="dataset") as a, open_artifact(split, kind="split") as s:
            if s.attrs["dataset_digest"] != a.digest:
                raise ArtifactError(
                    f"{split} was not made from {path}",
                    hint=f"seqres split-masks --dataset {path} --out {split} --force",
                )
            s.require_rows_of(a)
            names = split_names_of(a)
            if (guarded_name := str(s.attrs["split_name"])) not in names:
                raise ArtifactError(
                    f"{split} is of the split {shown(guarded_name)}, which {path} does not have"
                )
            guarded = names.index(guarded_name)
            visible = np.where(a["referents/split"] == guarded, s["visible"].astype(np.bool_), True)
            accepted = _accepted_masks(s, len(visible)) if masks == "training" else {}
        return cls(Path(path), visible, masks, accepted)

    # ---------------------------------------------------------------- tables

    def referents_in(self, split_name: str) -> NDArray[np.int64]:
        """Referent indices of a split; UsageError lists the known names."""
        if split_name not in self.split_names:
            raise UsageError(
                f"unknown split {split_name!r}",
                facts=[f"{self.path} has: {', '.join(self.split_names)}"],
                hint=nearest_hint(split_name, self.split_names, "'{}'"),
            )
        return np.flatnonzero(self.referent_split == self.split_names.index(split_name)).astype(np.int64)

    def sentences_of(self, referents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sentence indices of the given referents, in order."""
        chosen = np.zeros(len(self.boxes_xyxy), np.bool_)
        chosen[referents] = True
        return np.flatnonzero(chosen[self.sentence_referent]).astype(np.int64)

    # ---------------------------------------------------------------- pixels

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; EXIF orientation is ignored, as COCO does. ArtifactError names the file."""
        return decode_rgb(self._file(index), self.image_files[index], self.image_sizes_hw[index])

    def image_bytes(self, index: int) -> bytes:
        """The picture's file as it is. ArtifactError names it when it cannot be read."""
        return self._file(index).tobytes()

    def _file(self, index: int) -> NDArray[np.uint8]:
        return self._read_file(self.image_files[index]) if self._encoded is None else self._encoded[index]

    def _read_file(self, name: str) -> NDArray[np.uint8]:
        if not self._image_root:
            raise ArtifactError(f"{self.path} holds neither the pictures nor the folder that they are in")
        path = path_below(stored_path(self._image_root), name)
        try:
            return np.fromfile(path, np.uint8)
        except OSError as error:
            raise ArtifactError(
                f"cannot read image {path}: {(error.strerror or 'error').lower()}",
                hint="run prepare-data with --embed-images, or restore the folder",
            ) from error

    # ---------------------------------------------------------------- masks

    def mask_rle(self, referent: int) -> dict[str, Any]:
        """{"size": [H, W], "counts": bytes} of a visible mask; HiddenMaskError otherwise."""
        if not self.mask_visible[referent]:
            why = "has no mask" if not self.has_mask[referent] else "is hidden from this stage"
            raise HiddenMaskError(f"the mask of referent {int(self.ref_ids[referent])} {why}")
        accepted = self._accepted.get(int(referent))
        return stored_rle(
            self._masks[referent] if accepted is None else accepted,
            self.image_sizes_hw[self.referent_image[referent]],
            self.path,
        )

    def mask(self, referent: int) -> NDArray[np.bool_]:
        """(H, W) bool, True inside."""
        return rle_to_mask(self.mask_rle(referent))


def split_names_of(dataset: Artifact) -> list[str]:
    """The names of a dataset's splits; ArtifactError where the attribute is no list of texts."""
    names = dataset.attrs["split_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{dataset.path} is damaged", facts=[f"attribute split_names is {shown(names)}"])
    return names


def _require_possible(dataset: Artifact, data: ReferringDataset) -> None:
    """ArtifactError for splits that have no name, pictures larger than can be read, and boxes that are no numbers."""
    problem = None
    if data.referent_split.size and int(data.referent_split.max()) >= len(data.split_names):
        problem = f"referents/split: {int(data.referent_split.max())} of {len(data.split_names)} splits"
    elif data.image_sizes_hw.size and int(data.image_sizes_hw.prod(axis=1).max()) > LARGEST_PICTURE:
        problem = f"images/height, images/width: a picture of more than {LARGEST_PICTURE >> 20} megapixels"
    elif not np.isfinite(data.boxes_xyxy).all():
        problem = "referents/box_xyxy: a box that is not finite"
    if problem:
        raise ArtifactError(
            f"{dataset.path} is damaged", facts=[problem], hint=f"seqres verify {dataset.path}"
        )


def seen_referents(split: Artifact) -> NDArray[np.bool_]:
    """(R,) bool: whose mask training sees, the true one or one that a person accepted."""
    seen = split["visible"].astype(np.bool_)
    seen[list(_accepted_masks(split, len(seen)))] = True
    return seen


def _accepted_masks(split: Artifact, n_referents: int) -> dict[int, bytes]:
    """Referent -> compressed RLE of the accepted mask; ArtifactError for a referent that does not exist."""
    if "accepted/rle" not in split:
        return {}
    rows, masks = split["accepted/referent_index"].tolist(), split.ragged("accepted/rle")
    if rows and not 0 <= min(rows) <= max(rows) < n_referents:
        raise ArtifactError(f"{split.path} has accepted masks of referents that do not exist")
    return {row: masks[i].tobytes() for i, row in enumerate(rows)}
