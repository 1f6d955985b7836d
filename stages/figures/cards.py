"""The cards of the report's gallery: one a pseudo mask (they can be judged), one a scored sentence.

A card has a line in cards.js, which is all that filters and sorting need, and its shapes in one of the shapes-N.js, which
the page loads when the card comes into sight. The files are scripts, because a page that is opened as a file may load
nothing else. Texts in them are JSON in which no "<" is left.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Artifact
from stages.data.dataset import ReferringDataset
from stages.figures.overlays import Picture, enlarged
from stages.figures.samples import Truth
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import Rle, polygon_to_rle, rle_to_mask, stored_rle
from stages.metrics.segmentation import overlaps
from stages.metrics.selection import best_sentences, read_candidates, row_mask
from stages.reporter import Reporter

CHUNK = 48  # cards a file of shapes
_MOST_PARTS = 12  # of a mask; more are specks
_STRAY = 0.4  # px that the polygon of a mask may stray from its pixels
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Shown:
    """What the gallery draws on. `pseudo` is what a person judges; `before` the same before refine-masks."""

    pseudo: Artifact | None
    before: Artifact | None
    points: Artifact | None
    evaluation: Artifact | None


@dataclass(frozen=True)
class Card:
    """A row of one of the files."""

    pseudo_row: int | None
    evaluation_row: int | None
    referent: int
    sentence: int


def choose_shown(artifacts: Sequence[Artifact]) -> Shown:
    """The newest points with their pseudo masks, else the newest pseudo masks; the newest scores of a model that has
    learned from points, else of any that draws contours."""
    by_kind: dict[str, list[Artifact]] = {}
    for a in sorted(artifacts, key=_finished):
        by_kind.setdefault(a.kind, []).append(a)
    pseudo = {a.digest: a for a in by_kind.get("pseudo_points", [])}
    points = [a for a in by_kind.get("resampled_points", []) if a.attrs["pseudo_digest"] in pseudo]
    newest = (
        pseudo[str(points[-1].attrs["pseudo_digest"])] if points else next(reversed(pseudo.values()), None)
    )
    before = pseudo.get(str(newest.attrs.get("pseudo_digest"))) if newest is not None else None
    inputs = {m.digest: m.provenance.get("inputs", []) for m in by_kind.get("res_model", [])}
    taught = {digest for digest, given in inputs.items() if any(i["role"] == "points" for i in given)}
    scored = [e for e in by_kind.get("evaluation", []) if "points_xy" in e]
    prompted = {e.digest for e in scored if e.json("summary").get("box_prompt")}
    scored.sort(key=lambda e: (e.attrs["model_digest"] in taught, e.digest not in prompted, _finished(e)))
    return Shown(newest, before, points[-1] if points else None, scored[-1] if scored else None)


def truth_of(dataset: Path, splits: Sequence[Artifact], show_hidden: bool) -> tuple[ReferringDataset, Truth]:
    """True masks where they may be shown: of several splits, where all of them show it."""
    if show_hidden or not splits:
        data = ReferringDataset.open(dataset, masks="all")
    else:
        views = [ReferringDataset.open(dataset, split=s.path, masks="split") for s in splits]
        data = views[0]
        data.mask_visible = np.logical_and.reduce([v.mask_visible for v in views])
    return data, Truth(data, may_see_train=show_hidden or bool(splits))


class CardWriter:
    """Writes the gallery's files into `folder`, card by card; only a line a card is kept in memory."""

    def __init__(
        self, folder: Path, shown: Shown, data: ReferringDataset, truth: Truth, dataset: Artifact
    ) -> None:
        self.folder, self.shown, self.data, self.truth = folder, shown, data, truth
        self._candidates = None if shown.pseudo is None else read_candidates(dataset, shown.pseudo)
        self._reason: dict[int, str] = {}
        self._sentence: dict[int, int] = {}
        self._contour: dict[int, NDArray[Any]] = {}
        if shown.points is not None:
            p = shown.points
            decided = p["decisions/referent_index"].tolist()
            self._reason = dict(zip(decided, p.strings("decisions/reason"), strict=True))
            self._sentence = dict(zip(decided, p["decisions/sentence_index"].tolist(), strict=True))
            self._contour = dict(zip(p["referent_index"].tolist(), p["points_xy"], strict=True))
        self._before: dict[int, int] = {}
        if shown.before is not None:
            self._before = {int(s): i for i, s in enumerate(shown.before["sentence_index"])}
            self._before_rings = shown.before.ragged("points_xy").load()
        if shown.evaluation is not None:
            self._predicted = shown.evaluation.ragged("points_xy").load()
            self._predicted_masks = (
                shown.evaluation.ragged("masks/rle") if "masks/rle" in shown.evaluation else None
            )

    def cards(self) -> list[Card]:
        """All there are: pseudo masks by referent, then scored sentences; without either one a referent."""
        found: list[Card] = []
        c = self._candidates
        if c is not None:
            for row in best_sentences(c).tolist():
                r = int(c.referent[row])
                wanted = self._sentence.get(r)
                if wanted is not None and wanted != c.sentence[row]:
                    there = np.flatnonzero((c.referent == r) & (c.sentence == wanted))
                    row = int(there[0]) if len(there) else row
                found.append(Card(row, None, r, int(c.sentence[row])))
        e = self.shown.evaluation
        if e is not None:
            pairs = zip(e["referent_index"].tolist(), e["sentence_index"].tolist(), strict=True)
            found += [Card(None, i, r, s) for i, (r, s) in enumerate(pairs)]
        if not found:
            offsets = self.data.sentence_offsets
            found = [
                Card(None, None, r, int(offsets[r]))
                for r in range(len(self.data.ref_ids))
                if offsets[r + 1] > offsets[r]
            ]
        return found

    def write(self, cards: Sequence[Card], pixels: int, reporter: Reporter) -> None:
        """cards.js, shapes-N.js and the pictures."""
        pictures: set[int] = set()
        with (
            open(self.folder / "cards.js", "w", encoding="utf-8") as lines,
            reporter.progress("report cards", len(cards), "card") as task,
        ):
            lines.write("globalThis.seqresCards=[\n")
            for begin in range(0, len(cards), CHUNK):
                shapes = []
                for i, card in enumerate(cards[begin : begin + CHUNK], begin):
                    line, layers = self._card(card)
                    lines.write(script_json({"i": i, **line}) + ",\n")
                    shapes.append(layers)
                    image = int(self.data.referent_image[card.referent])
                    if image not in pictures:
                        pictures.add(image)
                        write_picture(self.folder / f"picture-{image}.jpg", self.data.image(image), pixels)
                    task.advance()
                write_chunk(self.folder, "shapes", begin // CHUNK, shapes)
            lines.write("];\n")

    def _card(self, card: Card) -> tuple[dict[str, Any], dict[str, Any]]:
        """(line of cards.js, shapes): lists of rings by layer, each ring flat x, y, x, y …"""
        data, r = self.data, card.referent
        image = int(data.referent_image[r])
        height, width = (int(v) for v in data.image_sizes_hw[image])
        box = data.boxes_xyxy[r]
        line: dict[str, Any] = {
            "ref": int(data.ref_ids[r]),
            "r": r,
            "s": card.sentence,
            "split": data.split_names[data.referent_split[r]],
            "t": data.texts[card.sentence],
            "im": image,
            "w": width,
            "h": height,
            "ar": _rounded((box[2] - box[0]) * (box[3] - box[1]) / max(width * height, 1), 4),
            "sc": None,
            "cf": None,
            "iou": None,
            "st": "referent",
            "why": "",
        }
        layers: dict[str, list[list[float]]] = {}
        mask: Rle | None = None
        if card.pseudo_row is not None:
            mask = self._pseudo_layers(card, line, layers)
        elif card.evaluation_row is not None:
            mask = self._predicted_layers(card, line, layers, (height, width))
        if self.truth.allowed(r):
            truth = data.mask_rle(r)
            layers["true"] = mask_rings(rle_to_mask(truth))
            if mask is not None:
                line["iou"] = _rounded(overlaps([mask], [truth]).iou[0], 3)
        return line, {"box": _flat(box.reshape(2, 2)), "layers": layers}

    def _pseudo_layers(self, card: Card, line: dict[str, Any], layers: dict[str, list[list[float]]]) -> Rle:
        c, row, r = self._candidates, card.pseudo_row, card.referent
        assert c is not None and row is not None
        refined = self.shown.before is not None
        mask = row_mask(c, row)
        ring = c.points[row]
        rings = [_flat(ring)] if len(ring) >= 2 else mask_rings(rle_to_mask(mask))
        layers["refined" if refined else "pseudo"] = rings
        if refined and (before := self._before.get(card.sentence)) is not None:
            layers["pseudo"] = [_flat(self._before_rings[before])]
        if r in self._contour:
            layers["resampled"] = [_flat(self._contour[r])]
        why = self._reason.get(r, "")
        status = "pseudo" if self.shown.points is None else "kept" if why == "kept" else "dropped"
        line |= {
            "st": status,
            "why": "" if why == "kept" else why,
            "sc": _rounded(c.score[row], 4),
            "cf": _rounded(c.confidence[row], 4),
        }
        return mask

    def _predicted_layers(
        self, card: Card, line: dict[str, Any], layers: dict[str, list[list[float]]], size_hw: tuple[int, int]
    ) -> Rle:
        row = card.evaluation_row
        assert row is not None
        ring = self._predicted[row]
        mask = polygon_to_rle(ring, size_hw)
        scored, masks = self.shown.evaluation, self._predicted_masks
        if (
            scored is not None
            and masks is not None
            and scored.attrs["frame"] == "original"
            and len(masks[row])
        ):
            mask = stored_rle(masks[row], size_hw, scored.path)
        layers["predicted"] = [_flat(ring)] if len(ring) >= 2 else mask_rings(rle_to_mask(mask))
        line["st"] = "scored"
        return mask


def spread(cards: Sequence[Card], most: int) -> list[Card]:
    """At most so many, at equal distances in the list."""
    if len(cards) <= most:
        return list(cards)
    return [cards[i * len(cards) // most] for i in range(most)]


def write_picture(path: Path, picture: Picture, pixels: int) -> None:
    """A JPEG of at most `pixels` on its longer side: encoded anew, so nothing but the picture is passed on."""
    if max(picture.shape[:2]) > pixels:
        picture, _ = enlarged(picture, pixels)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert done, "JPEG encoding of an RGB array cannot fail"
    path.write_bytes(bytes(data))


def mask_rings(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Polygons of the parts of a mask, the largest first, with no more points than it takes to see them."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:_MOST_PARTS]
    rings = []
    for part in order.tolist() if count > 1 else []:
        ring = largest_outer_contour(parts == part)
        rings.append(_flat(cv2.approxPolyDP(ring.reshape(-1, 1, 2), _STRAY, True).reshape(-1, 2)))
    return rings


def write_attention(
    folder: Path, attention: Artifact, data: ReferringDataset, pixels: int
) -> list[dict[str, Any]]:
    """attention-N.js, one a (sample, model), and what the page needs to list them."""
    models = [str(m) for m in attention.json("summary").get("models", [])]
    every_layer = "layer_maps/values" in attention
    kept = "layer_maps" if every_layer else "maps"  # of the last layer alone, in files from before
    steps, rings, maps = (attention.ragged(n) for n in ("step_of_point", "points_xy", kept))
    listed = []
    for i, (model, r, s) in enumerate(
        zip(*(attention[n].tolist() for n in ("model", "referent_index", "sentence_index")), strict=True)
    ):
        shape = attention.rows("map_shape", slice(i, i + 1))[0].tolist()
        cells = maps[i].astype(np.float32).reshape(shape[0], -1, *shape[1:])  # (steps, layers, rows, columns)
        if shape[0] > 1:  # the two steps that predicted a point's x and y
            x = steps[i]
            cells = (cells[x] + cells[(x + 1).clip(max=len(cells) - 1)]) / 2
        top = cells.max(axis=(2, 3), initial=0)[:, :, None, None]
        levels = np.clip(255 * cells / np.where(top > 0, top, 1), 0, 255).astype(np.uint8)
        image = int(data.referent_image[r])
        height, width = (int(v) for v in data.image_sizes_hw[image])
        picture = folder / f"picture-{image}.jpg"
        if not picture.exists():
            write_picture(picture, data.image(image), pixels)
        content = {
            "shape": [int(v) for v in levels.shape],
            "maps": base64.b64encode(levels.tobytes()).decode("ascii"),
            "points": _flat(rings[i]),
        }
        write_chunk(folder, "attention", i, content)
        name = models[model] if model < len(models) else f"model {model + 1}"
        listed.append({"i": i, "model": name, "t": data.texts[s], "im": image, "w": width, "h": height})
    return listed


def write_chunk(folder: Path, name: str, number: int, content: Any) -> None:
    text = f"globalThis.seqresChunk({json.dumps(name)},{number},{script_json(content)});\n"
    (folder / f"{name}-{number}.js").write_text(text, "utf-8")


def script_json(value: Any) -> str:
    """JSON that may stand in a script, inside a page or not: no tag, comment or line end of its own can be read in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _flat(points_xy: NDArray[Any]) -> list[float]:
    return [round(v, 1) for v in np.nan_to_num(np.asarray(points_xy, np.float64)).reshape(-1).tolist()]


def _rounded(value: Any, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _finished(artifact: Artifact) -> str:
    return str(artifact.provenance.get("ended_utc") or "")
