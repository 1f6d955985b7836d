"""RefShapes: a procedural referring-expression data set, written in the layout of REFER.

The embedded default: `write_refer_layout` makes a folder that the REFER reader takes like RefCOCO's,

    ROOT/refshapes/refs(unc).p      referents and sentences
    ROOT/refshapes/instances.json   images, annotations (polygons, some compressed RLE), categories
    ROOT/images/train2014/*.jpg

Every scene has its own random stream from (seed, split, index): the same seed gives the same bytes, whatever
the number of processes, and a larger scale only appends scenes. testA holds referents of curved shapes only,
testB of angular ones (as RefCOCO's people and other things); at the object scales, of things and of signs.
"""

import json
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from stages.artifacts.whole_file import write_whole
from stages.data.refshapes.kinds import everyday, kinds, kinds_of
from stages.data.refshapes.object_scenes import generate_object_scene
from stages.data.refshapes.scenes import Scene, ShapeObject, generate_scene
from stages.data.refshapes.sentences import make_sentences
from stages.data.refshapes.shapes import ANGULAR_SHAPES, CURVED_SHAPES, SHAPES
from stages.data.refshapes.textures import dress, load_textures
from stages.errors import UsageError
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import ellipse_to_rle, mask_to_rle, polygon_to_rle
from stages.reporter import Reporter, SilentReporter

Job = tuple[str, int, str, int, tuple[Path, ...]]  # world, seed, split, index of a scene, pictures it wears
IMAGE_SIZE = 160  # pixels, square
JPEG_QUALITY = 92
RLE_SHARE = 0.2  # of the annotations whose polygon would be exact, so that a reader meets both forms
MAX_REFERENTS = 4
_CATEGORY_NAMES = {"l": "letter l", "s": "letter s"}
_SPLIT_NUMBERS = {"train": 0, "val": 1, "testA": 2, "testB": 3}  # in random streams and ids


@dataclass(frozen=True)
class World:
    """What a family of scales shows. test_a, test_b: what may be referred to in these splits."""

    shapes: tuple[str, ...]
    test_a: tuple[str, ...]
    test_b: tuple[str, ...]
    scene: Callable[..., Scene]

    def favoured(self, split: str) -> tuple[str, ...] | None:
        """What may be referred to; None = everything."""
        return {"testA": self.test_a, "testB": self.test_b}.get(split)

    def categories(self) -> dict[str, int]:
        return {shape: number for number, shape in enumerate(self.shapes, start=1)}


@lru_cache(maxsize=4)
def world(name: str) -> World:
    """ "shapes", "objects", "everyday" (what the backbone called objects was trained on) or "demo" (fewer kinds in plainer
    pictures, for a training of minutes); the last two have train and val only.
    """
    if name == "everyday":
        return World(everyday(), (), (), partial(generate_object_scene, known=everyday()))
    if name == "demo":
        known = everyday("demo")
        plainer = partial(generate_object_scene, known=known, camouflaged=0.2, clutter=(1, 4))
        return World(known, (), (), plainer)
    if name == "objects":
        return World(tuple(kinds()), kinds_of("thing"), kinds_of("sign"), generate_object_scene)
    return World(SHAPES, CURVED_SHAPES, ANGULAR_SHAPES, generate_scene)


def world_of(scale: str) -> str:
    if scale == "objects-demo":
        return "demo"
    return "objects" if scale.startswith("objects") else "shapes"


SCALES: dict[str, dict[str, int]] = {  # images per split
    "tiny": {"train": 40, "val": 8, "testA": 6, "testB": 6},
    "smoke": {"train": 1_500, "val": 150, "testA": 100, "testB": 100},
    "standard": {"train": 10_000, "val": 600, "testA": 400, "testB": 400},
    "objects-tiny": {"train": 40, "val": 8, "testA": 6, "testB": 6},
    "objects-demo": {"train": 1_500, "val": 150},
    "objects-smoke": {"train": 1_500, "val": 150, "testA": 100, "testB": 100},
    "objects": {"train": 3_000, "val": 600, "testA": 400, "testB": 400},
}


@dataclass
class RefShapesReport:
    """What was written; the IoU values say how bad a box or an ellipse is as a mask, over all referents."""

    images: dict[str, int] = field(default_factory=dict)
    referents: dict[str, int] = field(default_factory=dict)
    sentences: dict[str, int] = field(default_factory=dict)
    words: int = 0  # size of the vocabulary
    sentences_per_referent: float = 0.0
    occluded_share: float = 0.0  # referents of which more than 3 % is hidden
    filled_box_iou: float = 0.0  # of the true box
    ellipse_iou: float = 0.0  # of the ellipse inscribed in the true box
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Written:
    """One scene as it goes into the files, made in a worker process."""

    jpeg: bytes
    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    refs: list[dict[str, Any]]
    box_iou: list[float]
    ellipse_iou: list[float]
    visible_share: list[float]


def split_scene(
    seed: int, split: str, index: int, size: int = IMAGE_SIZE, of: str = "shapes"
) -> tuple[Scene, dict[int, list[tuple[str, str]]]]:
    """Scene number `index` of a split, and the (style, sentence) pairs of each object referred to (2 to 4).

    `of`: the name of the `world` it shows.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, _SPLIT_NUMBERS[split], index]))
    allowed = world(of).favoured(split)
    while True:
        scene = world(of).scene(rng, size, favoured_shapes=allowed)
        wanted = int(rng.integers(2, MAX_REFERENTS + 1))
        chosen: dict[int, list[tuple[str, str]]] = {}
        for number in rng.permutation(len(scene.objects)):
            item = scene.objects[number]
            if len(chosen) < wanted and item.in_one_piece and (allowed is None or item.shape in allowed):
                said = make_sentences(scene, int(number), rng)
                if said:
                    chosen[int(number)] = said
        if len(chosen) >= 2:
            return scene, dict(sorted(chosen.items()))


def write_refer_layout(
    root: Path,
    scale: str,
    seed: int,
    reporter: Reporter = SilentReporter(),
    *,
    workers: int = 1,
    counts: dict[str, int] | None = None,
    textures: tuple[Path, ...] = (),
) -> RefShapesReport:
    """Write the data set under `root` and return its statistics.

    `scale` is a key of SCALES; `counts` (images per split) overrides it. `workers` > 1 uses that many
    processes and writes the same bytes. `textures`: pictures that shapes and ground wear, see `refshapes_textures`.

    Raises:
        UsageError: unknown scale.
    """
    if scale not in SCALES:
        raise UsageError(f"unknown RefShapes scale '{scale}'", facts=[f"known: {', '.join(SCALES)}"])
    counts = SCALES[scale] if counts is None else counts
    started = time.perf_counter()
    folder, images = root / "refshapes", root / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    collected = _Collected()
    load_textures(textures)  # here first: a process of its own could not tell what is wrong with one
    shown = world_of(scale)
    jobs = [
        (shown, seed, split, index, textures) for split, count in counts.items() for index in range(count)
    ]
    with reporter.progress("generate RefShapes", len(jobs), "image") as task:
        for written in _make_all(jobs, workers):
            (images / written.image["file_name"]).write_bytes(written.jpeg)
            collected.add(written)
            task.advance()
    _write_instances(folder / "instances.json", collected, scale, seed)
    # Through JSON and back: pickle writes one *object* met twice as a reference, so without this the bytes
    # would depend on which strings happen to be shared, which differs between one process and several.
    refs = json.loads(json.dumps(collected.refs))
    write_whole(folder / "refs(unc).p", pickle.dumps(refs, protocol=2))
    report = collected.report(counts)
    report.seconds = time.perf_counter() - started
    return report


def _make_all(jobs: list[Job], workers: int) -> Iterator[_Written]:
    if workers <= 1:
        yield from map(_make_scene, jobs)
        return
    done = 0
    try:
        # "spawn": a fork of a process that runs torch or OpenMP threads may hang.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, cv2.setNumThreads, (1,)) as pool:
            for written in pool.map(_make_scene, jobs, chunksize=32):
                done += 1
                yield written
    except BrokenProcessPool:  # a script without a `__main__` guard, or no memory for workers: go on alone
        yield from map(_make_scene, jobs[done:])


def _make_scene(job: Job) -> _Written:
    shown, seed, split, index, textures = job
    scene, chosen = split_scene(seed, split, index, of=shown)
    categories = world(shown).categories()
    picture = scene.image
    if textures:
        rng = np.random.default_rng([seed, _SPLIT_NUMBERS[split], index, 2])
        picture = dress(scene, load_textures(textures), rng)
    # Ids follow from split and index alone, so a larger scale keeps those of a smaller one.
    image_id = (_SPLIT_NUMBERS[split] + 1) * 1_000_000 + index
    stem = f"RefShapes_{split}_{image_id:012d}"
    # apart: the scene must not depend on it
    form = np.random.default_rng([seed, _SPLIT_NUMBERS[split], index, 1])
    ok, encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert ok
    rles = [mask_to_rle(item.mask) for item in scene.objects]
    annotations = []
    for number, (item, rle) in enumerate(zip(scene.objects, rles, strict=True)):
        as_polygon = number in chosen and form.random() >= RLE_SHARE
        category = categories[item.shape]
        annotations.append(_annotation(item, dict(rle), image_id, number, category, as_polygon=as_polygon))
    refs = [
        _ref(stem, image_id, number, categories[scene.objects[number].shape], split, said)
        for number, said in chosen.items()
    ]
    ellipse_iou, box_iou = [], []
    for number in chosen:
        item = scene.objects[number]
        ellipse = ellipse_to_rle(item.box_xyxy, item.mask.shape)
        ellipse_iou.append(float(coco_mask.iou([ellipse], [rles[number]], [0])[0, 0]))
        x0, y0, x1, y1 = item.box_xyxy
        box_iou.append(float(np.count_nonzero(item.mask) / ((x1 - x0) * (y1 - y0))))
    image = {"id": image_id, "file_name": f"{stem}.jpg", "height": scene.size, "width": scene.size}
    visible = [scene.objects[number].visible_share for number in chosen]
    return _Written(encoded.tobytes(), image, annotations, refs, box_iou, ellipse_iou, visible)


def _annotation(
    item: ShapeObject, rle: dict[str, Any], image_id: int, number: int, category: int, *, as_polygon: bool
) -> dict[str, Any]:
    x0, y0, x1, y1 = item.box_xyxy.tolist()
    polygons = _exact_polygons(item.mask) if as_polygon else None
    segmentation: object = polygons
    if polygons is None:
        segmentation = {"size": list(item.mask.shape), "counts": rle["counts"].decode("ascii")}
    return {
        "id": image_id * 10 + number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(np.count_nonzero(item.mask)),
        "iscrowd": 0,
        "segmentation": segmentation,
    }


def _exact_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """One polygon a piece along the pixel edges, or None when they would not give the mask back (holes)."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    pieces = [_without_straights(largest_outer_contour(labels == label)) for label in range(1, count)]
    merged = coco_mask.merge([polygon_to_rle(piece, mask.shape) for piece in pieces])
    if merged["counts"] != mask_to_rle(mask)["counts"]:
        return None
    return [[int(v) if v == int(v) else float(v) for v in piece.ravel()] for piece in pieces]


def _without_straights(points_xy: np.ndarray) -> np.ndarray:
    """The same ring without the points that lie on the straight line between their neighbours."""
    before, after = points_xy - np.roll(points_xy, 1, axis=0), np.roll(points_xy, -1, axis=0) - points_xy
    return points_xy[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _ref(
    stem: str, image_id: int, number: int, category: int, split: str, said: list[tuple[str, str]]
) -> dict[str, Any]:
    ref_id = image_id * 10 + number
    sentences = [
        {"sent_id": ref_id * 10 + k, "sent": text, "raw": text, "tokens": text.split(), "style": style}
        for k, (style, text) in enumerate(said)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": ref_id,
        "image_id": image_id,
        "category_id": category,
        "file_name": f"{stem}_{ref_id}.jpg",  # REFER's habit: the annotation's id before the suffix
        "split": split,
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "sentences": sentences,
    }


class _Collected:
    """The tables of the data set while scene after scene comes in."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.refs: list[dict[str, Any]] = []
        self._box_iou: list[float] = []
        self._ellipse_iou: list[float] = []
        self._visible: list[float] = []

    def add(self, written: _Written) -> None:
        self.images.append(written.image)
        self.annotations += written.annotations
        self.refs += written.refs
        self._box_iou += written.box_iou
        self._ellipse_iou += written.ellipse_iou
        self._visible += written.visible_share

    def report(self, counts: dict[str, int]) -> RefShapesReport:
        report = RefShapesReport(images=dict(counts))
        words: set[str] = set()
        for split in counts:
            refs = [ref for ref in self.refs if ref["split"] == split]
            report.referents[split] = len(refs)
            report.sentences[split] = sum(len(ref["sentences"]) for ref in refs)
        for ref in self.refs:
            for sentence in ref["sentences"]:
                words.update(sentence["tokens"])
        report.words = len(words)
        report.sentences_per_referent = sum(report.sentences.values()) / max(1, len(self.refs))
        if self.refs:
            report.occluded_share = float(np.mean(np.array(self._visible) < 0.97))
            report.filled_box_iou = float(np.mean(self._box_iou))
            report.ellipse_iou = float(np.mean(self._ellipse_iou))
        return report


def _write_instances(path: Path, collected: _Collected, scale: str, seed: int) -> None:
    content = {
        "info": {
            "description": "RefShapes, a procedural referring-expression data set",
            "scale": scale,
            "seed": seed,
        },
        "images": collected.images,
        "annotations": collected.annotations,
        "categories": [
            {
                "id": number,
                "name": _CATEGORY_NAMES.get(shape, shape),
                "supercategory": "shape" if world_of(scale) == "shapes" else "object",
            }
            for shape, number in world(world_of(scale)).categories().items()
        ],
    }
    write_whole(path, json.dumps(content, separators=(",", ":")).encode("ascii"))
