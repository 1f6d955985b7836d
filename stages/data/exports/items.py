"""The labels of an artifact as one list, whatever they are: true masks, pseudo, refined or resampled ones, predictions.

One item is one thing in one picture: its box, its mask where there is one, and the expressions that mean it. Rows of
pseudo labels or of an evaluation that agree in referent and mask are one item.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact, open_artifact
from stages.artifacts.provenance import stored_path
from stages.data.dataset import ReferringDataset
from stages.data.images import path_below
from stages.data.readers.records import load_json
from stages.errors import ArtifactError
from stages.geometry.rasterise import Rle, checked_rle, polygon_to_rle, rle_area, stored_rle

LABELS = ("pseudo_points", "resampled_points", "evaluation")
NO_CATEGORY = "object"
_PREDICTIONS_VERSION = 1  # of the document that predict writes
Box = NDArray[np.float64]  # (4,) xyxy, px


@dataclass(frozen=True)
class Picture:
    """`name` is a relative path; `place`: the file, None where the picture is in the artifact."""

    id: int
    name: str
    size_hw: tuple[int, int]
    place: Path | None = None


@dataclass(frozen=True, eq=False)
class Item:
    """One labelled thing."""

    picture: int  # row of Labels.pictures
    ref_id: int
    ann_id: int
    category: str
    expressions: list[str]
    box_xyxy: Box | None
    rle: Rle | None
    score: float | None
    split: str
    is_crowd: bool = False


@dataclass(frozen=True, eq=False)
class Labels:
    """Everything that is exported. `origin` says of what: "dataset", "pseudo_points", "predictions" …"""

    origin: str
    digest: str
    pictures: list[Picture]
    items: list[Item]
    categories: dict[str, int]
    encoded: Callable[[int], bytes] | None = None  # the file of a picture; None: as `pictures` say
    notices: dict[str, int] = field(default_factory=dict)

    @property
    def scored(self) -> bool:
        return any(item.score is not None for item in self.items)

    def by_picture(self) -> dict[int, list[Item]]:
        """Only pictures with items, in their order."""
        found: dict[int, list[Item]] = {}
        for item in self.items:
            found.setdefault(item.picture, []).append(item)
        return dict(sorted(found.items()))

    def bytes_of(self, picture: int) -> bytes:
        """The file of a picture. ArtifactError when there is none."""
        if self.encoded is not None:
            return self.encoded(picture)
        place = self.pictures[picture].place
        try:
            if place is None:
                raise FileNotFoundError(2, "no such file")
            return place.read_bytes()
        except OSError as error:
            raise ArtifactError(
                f"cannot read image {place}: {(error.strerror or 'error').lower()}",
                hint="restore the folder, or leave out --copy-images",
            ) from error


def labels_of(
    dataset: Path, labels: Path | None, split: Path | None, split_names: Iterable[str] = ()
) -> Labels:
    """The true masks of a dataset (of those that `split` hides only the boxes), or what `labels` says of it.

    Raises:
        UsageError: an unknown name of a split.
        ArtifactError: a file cannot be used, or was not made from the dataset.
    """
    data = ReferringDataset.open(dataset, split=split, masks="split" if split is not None else "all")
    with open_artifact(dataset, "dataset") as source:
        ann_ids = source["referents/ann_id"].tolist()
        category_ids = source["categories/id"].tolist()
        is_crowd = source["referents/is_crowd"].tolist()
        root = str(source.attrs.get("image_root", ""))
    names = list(split_names)
    rows = (
        np.concatenate([data.referents_in(name) for name in names]) if names else np.arange(len(data.ref_ids))
    )
    wanted = set(rows.tolist())
    if labels is None:
        found: Iterable[_Row] = _true_rows(data)
        origin, digest = "dataset", data.digest
    else:
        with open_artifact(labels, LABELS) as artifact:
            if artifact.attrs["dataset_digest"] != data.digest:
                raise ArtifactError(
                    f"{labels} was not made from {dataset}", hint="give the --dataset it was made from"
                )
            with open_artifact(dataset, "dataset") as source:
                artifact.require_rows_of(source)
            found, origin, digest = list(_ROWS[artifact.kind](artifact, data)), artifact.kind, artifact.digest
    chosen = [row for row in found if row.referent in wanted]
    with_object = [r for r in chosen if (r.box_xyxy is not None if r.rle is None else rle_area(r.rle))]
    items = [
        Item(
            picture=int(data.referent_image[row.referent]),
            ref_id=int(data.ref_ids[row.referent]),
            ann_id=int(ann_ids[row.referent]),
            category=_category(data, row.referent),
            expressions=[data.texts[s] for s in row.sentences],
            box_xyxy=row.box_xyxy,
            rle=row.rle,
            score=row.score,
            split=data.split_names[int(data.referent_split[row.referent])],
            is_crowd=bool(is_crowd[row.referent]),
        )
        for row in with_object
    ]
    pictures = [
        Picture(int(i), name, (int(h), int(w)), path_below(stored_path(root), name) if root else None)
        for i, name, (h, w) in zip(data.image_ids, data.image_files, data.image_sizes_hw, strict=True)
    ]
    categories = {c: int(k) for c, k in zip(data.categories, category_ids, strict=True)}
    hidden = int((data.has_mask & ~data.mask_visible)[rows].sum()) if labels is None else 0
    counts = {
        "masks that the split hides, exported as boxes": hidden,
        "labels without an object left out": len(chosen) - len(with_object),
    }
    notices = {what: n for what, n in counts.items() if n}
    return Labels(
        origin, digest, pictures, items, _with_objects(categories, items), data.image_bytes, notices
    )


def _category(data: ReferringDataset, referent: int) -> str:
    row = int(data.category_index[referent])
    return data.categories[row] if row >= 0 else NO_CATEGORY


def _with_objects(categories: dict[str, int], items: list[Item]) -> dict[str, int]:
    """The categories, with one for items that have none."""
    if any(item.category not in categories for item in items):
        return {**categories, NO_CATEGORY: max(categories.values(), default=0) + 1}
    return categories


@dataclass(frozen=True, eq=False)
class _Row:
    referent: int
    sentences: list[int]
    box_xyxy: Box | None
    rle: Rle | None
    score: float | None


def _true_rows(data: ReferringDataset) -> Iterable[_Row]:
    for r in range(len(data.ref_ids)):
        sentences = list(range(int(data.sentence_offsets[r]), int(data.sentence_offsets[r + 1])))
        yield _Row(r, sentences, data.boxes_xyxy[r], data.mask_rle(r) if data.mask_visible[r] else None, None)


def _size_of(data: ReferringDataset, referent: int) -> tuple[int, int]:
    height, width = data.image_sizes_hw[data.referent_image[referent]]
    return int(height), int(width)


def _pseudo_rows(artifact: Artifact, data: ReferringDataset) -> Iterable[_Row]:
    made = artifact.provenance.get("config", {}).get("frame", {})
    if isinstance(made, Mapping) and made.get("value") == "model":
        raise ArtifactError(
            f"{artifact.path} holds contours in the model's frame, not in pixels of the pictures"
        )
    masks = artifact.ragged("masks/rle") if "masks/rle" in artifact else None
    points, confidence = artifact.ragged("points_xy"), artifact["confidence"]
    pairs = zip(artifact["referent_index"].tolist(), artifact["sentence_index"].tolist(), strict=True)
    rows = []
    for i, (r, s) in enumerate(pairs):
        size = _size_of(data, r)
        rle = polygon_to_rle(points[i], size) if masks is None else stored_rle(masks[i], size, artifact.path)
        rows.append(_Row(r, [s], data.boxes_xyxy[r], rle, float(confidence[i])))
    return _grouped(rows)


def _resampled_rows(artifact: Artifact, data: ReferringDataset) -> Iterable[_Row]:
    points, confidence = artifact["points_xy"], artifact["confidence"].tolist()
    for i, r in enumerate(artifact["referent_index"].tolist()):
        sentences = list(range(int(data.sentence_offsets[r]), int(data.sentence_offsets[r + 1])))
        yield _Row(
            r, sentences, data.boxes_xyxy[r], polygon_to_rle(points[i], _size_of(data, r)), confidence[i]
        )


def _evaluation_rows(artifact: Artifact, data: ReferringDataset) -> Iterable[_Row]:
    if artifact.attrs["frame"] != "original":
        raise ArtifactError(
            f"{artifact.path} was scored in the model's frame, so its masks are not those of the pictures",
            hint="seqres evaluate … --frame original",
        )
    masks = artifact.ragged("masks/rle") if "masks/rle" in artifact else None
    boxes = artifact["predicted_box_xyxy"].astype(np.float64)
    rows = []
    pairs = zip(artifact["referent_index"].tolist(), artifact["sentence_index"].tolist(), strict=True)
    for i, (r, s) in enumerate(pairs):
        rle = None if masks is None else stored_rle(masks[i], _size_of(data, r), artifact.path)
        rows.append(_Row(r, [s], boxes[i] if np.isfinite(boxes[i]).all() else None, rle, None))
    return _grouped(rows)


_ROWS: dict[str, Callable[[Artifact, ReferringDataset], Iterable[_Row]]] = {
    "pseudo_points": _pseudo_rows,
    "resampled_points": _resampled_rows,
    "evaluation": _evaluation_rows,
}


def _grouped(rows: Iterable[_Row]) -> list[_Row]:
    """Rows that agree in referent, box and mask as one, with the highest score."""
    found: dict[Any, _Row] = {}
    for row in rows:
        box = None if row.box_xyxy is None else row.box_xyxy.tobytes()
        key = (row.referent, box, None if row.rle is None else bytes(row.rle["counts"]))
        same = found.setdefault(key, row)
        if same is not row:
            scores = [r.score for r in (same, row) if r.score is not None]
            found[key] = replace(
                same, sentences=[*same.sentences, *row.sentences], score=max(scores, default=None)
            )
    return list(found.values())


def labels_of_predictions(path: Path) -> Labels:
    """What `seqres predict` wrote; answers without an object are left out and counted.

    Raises:
        ArtifactError: the file is no such document.
    """
    document = load_json(path)
    if not isinstance(document, Mapping) or document.get("format") != "seqres-predictions":
        raise ArtifactError(
            f"{path} holds no predictions", hint="give the JSON file that seqres predict wrote"
        )
    if document.get("version", 1) != _PREDICTIONS_VERSION:
        raise ArtifactError(
            f"{path} has version {str(document.get('version'))[:20]} of its format, this seqres reads {_PREDICTIONS_VERSION}",
            hint="update seqres: the file may come from a newer release",
        )
    try:
        return _of_document(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged", facts=[f"{type(error).__name__}: {error}"]) from error


def _of_document(document: Mapping[str, Any]) -> Labels:
    rows: list[Mapping[str, Any]] = document["predictions"]
    listed = document.get("images") or [
        {"id": k, "file_name": name, "height": size[0], "width": size[1]}
        for k, (name, size) in enumerate({row["image"]: row["size"] for row in rows}.items(), 1)
    ]
    paths = [Path(os.path.abspath(entry["file_name"])) for entry in listed]
    folder = os.path.commonpath([path.parent for path in paths]) if paths else "."
    pictures = [
        Picture(int(e["id"]), path.relative_to(folder).as_posix(), (int(e["height"]), int(e["width"])), path)
        for e, path in zip(listed, paths, strict=True)
    ]
    place = {picture.id: k for k, picture in enumerate(pictures)}
    by_name = {str(entry["file_name"]): k for k, entry in enumerate(listed)}
    items, nothing = [], 0
    for number, row in enumerate(rows, 1):
        k = place[row["image_id"]] if "image_id" in row else by_name[str(row["image"])]
        box = None if row["box_xyxy"] is None else np.array(row["box_xyxy"], np.float64)
        rle = None if row["mask"] is None else checked_rle(row["mask"], pictures[k].size_hw)
        if box is None or (rle is not None and not rle_area(rle)):
            nothing += 1
            continue
        score = float(row["confidence"])
        items.append(Item(k, number, number, NO_CATEGORY, [str(row["phrase"])], box, rle, score, "train"))
    notices = {"predictions without an object left out": nothing} if nothing else {}
    digest = str(document.get("fingerprint", ""))
    return Labels("predictions", digest, pictures, items, _with_objects({}, items), None, notices)


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """JSON in ASCII, the same for the same content."""
    return (json.dumps(content, allow_nan=False, indent=indent) + "\n").encode("ascii")
