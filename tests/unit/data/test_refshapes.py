"""RefShapes: scenes, sentences that fit exactly one object, and the REFER layout they are written in."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.data.refshapes.folder import SCALES, Scene, generate_scene, split_scene, write_refer_layout
from stages.data.refshapes.scenes import MIN_VISIBLE
from stages.data.refshapes.shapes import (
    ANGULAR_SHAPES,
    COLOURS,
    CURVED_SHAPES,
    SHAPES,
    coverage,
    sample_outline,
)
from stages.errors import UsageError
from stages.geometry.rasterise import rle_from_segmentation, rle_to_mask

SPLITS = ("train", "val", "testA", "testB")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(np.random.default_rng([11, i])) for i in range(40)]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("refshapes")
    return root, write_refer_layout(root, "tiny", 3).as_dict()


def _tables(root: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with open(root / "refshapes" / "refs(unc).p", "rb") as stream:
        refs = pickle.load(stream)
    return refs, json.loads((root / "refshapes" / "instances.json").read_text())


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------- scenes


def test_scene_has_three_to_five_shapes_with_disjoint_visible_masks(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (160, 160, 3) and scene.image.dtype == np.uint8
        assert 3 <= len(scene.objects) <= 5
        assert np.sum([item.mask for item in scene.objects], axis=0).max() <= 1


def test_visible_mask_is_what_later_objects_leave(scenes: list[Scene]) -> None:
    for scene in scenes:
        above = np.zeros((160, 160), bool)
        for item in reversed(scene.objects):
            np.testing.assert_array_equal(item.mask, item.full_mask & ~above)
            above |= item.full_mask
            assert item.mask.sum() / item.full_mask.sum() == pytest.approx(item.visible_share)
            assert item.visible_share >= MIN_VISIBLE


def test_box_is_that_of_the_visible_mask(scenes: list[Scene]) -> None:
    for item in (item for scene in scenes for item in scene.objects):
        rows, columns = np.nonzero(item.mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(item.box_xyxy, expected)


def test_small_and_large_are_apart(scenes: list[Scene]) -> None:
    extent: dict[str, list[int]] = {"small": [], "large": []}
    for item in (item for scene in scenes for item in scene.objects):
        rows, columns = np.nonzero(item.full_mask)
        if min(rows.min(), columns.min()) > 0 and max(rows.max(), columns.max()) < 159:
            extent[item.size_name].append(int(max(np.ptp(rows), np.ptp(columns))) + 1)
    assert max(extent["small"]) < 0.38 * 160 < 0.48 * 160 < min(extent["large"])


def test_shapes_of_one_colour_do_not_touch(scenes: list[Scene]) -> None:
    for scene in scenes:
        for i, item in enumerate(scene.objects):
            for other in scene.objects[i + 1 :]:
                assert other.colour != item.colour or not (other.full_mask & item.full_mask).any()


def test_every_shape_and_colour_occurs(scenes: list[Scene]) -> None:
    assert {item.shape for scene in scenes for item in scene.objects} == set(SHAPES)
    assert {item.colour for scene in scenes for item in scene.objects} == set(COLOURS)


def test_shapes_stand_out_of_the_ground(scenes: list[Scene]) -> None:
    """Hue and saturation tell a shape from the ground; brightness alone does not."""
    saturated, brightness = [], []
    for scene in scenes:
        hsv = cv2.cvtColor(scene.image, cv2.COLOR_RGB2HSV).astype(float)
        ground = ~np.any([item.full_mask for item in scene.objects], axis=0)
        for item in scene.objects:
            saturated.append(np.median(hsv[item.mask][:, 1]) > np.median(hsv[ground][:, 1]))
            brightness.append(np.median(hsv[item.mask][:, 2]) > np.median(hsv[ground][:, 2]))
    assert np.mean(saturated) > 0.97
    assert 0.3 < np.mean(brightness) < 0.97


def test_same_generator_same_scene() -> None:
    first, second = (generate_scene(np.random.default_rng(5), size=96) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.shape == (96, 96, 3)
    assert not np.array_equal(first.image, generate_scene(np.random.default_rng(6), size=96).image)


@pytest.mark.parametrize("shape", SHAPES)
def test_outline_is_a_simple_ring_of_the_wanted_extent(shape: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points = sample_outline(shape, 60.0, float(rng.uniform(0, 6.28)), rng)
        assert np.ptp(points, axis=0).max() == pytest.approx(60.0)
        np.testing.assert_allclose(points.min(axis=0), -points.max(axis=0))
        alpha, _ = coverage(points + 50.0, (100, 100))
        x, y = points.T
        enclosed = abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2
        # A ring that crosses itself encloses a signed area that differs from the painted one.
        assert float(alpha.sum()) == pytest.approx(enclosed, rel=0.03)


def test_coverage_is_cut_at_the_border() -> None:
    square = np.array([(-5.0, -5.0), (5.5, -5.0), (5.5, 4.0), (-5.0, 4.0)])
    alpha, corner = coverage(square, (20, 30))
    assert corner == (0, 0) and alpha.shape == (4, 6)
    # cv2 also fills the fine pixels that the border runs through: at most a quarter of a pixel more.
    np.testing.assert_allclose(alpha[0], [1, 1, 1, 1, 1, 0.5], atol=0.26)
    assert coverage(square + 100.0, (20, 30))[0].size == 0


# ---------------------------------------------------------------- sentences: an independent reading of the words

_SIZES = {
    "small": "small",
    "little": "small",
    "tiny": "small",
    "large": "large",
    "big": "large",
    "huge": "large",
}
_NOUNS = {
    "plus sign": "cross", "crescent": "moon", "splash": "blob", "letter l": "l", "letter s": "s", "snake": "s",
    "shape": None, "one": None, "thing": None, "object": None, **{s: s for s in SHAPES if len(s) > 1},
}  # fmt: skip
_NOUN_PHRASE = rf"(?:(?:{'|'.join(_SIZES)}) )?(?:(?:{'|'.join(COLOURS)}) )?(?:{'|'.join(_NOUNS)})"
_RELATIONS = {
    "left": ("to the left of", "that is left of", "on the left side of"),
    "right": ("to the right of", "that is right of", "on the right side of"),
    "top": ("above", "that is above", "higher than"),
    "bottom": ("below", "that is under", "lower than"),
    "behind": ("behind", "that is partly hidden by", "partly covered by"),
}
_PLACE = "(?:top |bottom )?(?:left|right)|top|bottom|middle|center"
_SHORT = (
    rf"(?P<noun>{_NOUN_PHRASE})",
    rf"(?P<place>{_PLACE})(?:most)? (?P<noun>{_NOUN_PHRASE})",
    rf"(?P<noun>{_NOUN_PHRASE}) (?:closest to |in |at |on )?(?:the )?(?P<place>{_PLACE})(?: side| part| corner)?",
)
_LONG = rf"(?:the|an?) (?P<noun>{_NOUN_PHRASE}) (?:that is )?(?:in|at|on) the (?P<place>{_PLACE})(?: side| corner)? of the picture"


def _look(words: str) -> tuple[str | None, str | None, str | None]:
    parts = words.split(" ")
    size = _SIZES.get(parts[0])
    colour = next((p for p in parts if p in COLOURS), None)
    noun = " ".join(p for p in parts if p not in _SIZES and p not in COLOURS)
    return size, colour, _NOUNS[noun]


def _matching(scene: Scene, words: str) -> list[int]:
    size, colour, shape = _look(words)
    return [
        i
        for i, o in enumerate(scene.objects)
        if size in (None, o.size_name) and colour in (None, o.colour) and shape in (None, o.shape)
    ]


def _offset(scene: Scene, i: int, word: str, origin: tuple[float, float]) -> float:
    """How far object i lies from the origin in the direction of the word, in pixels."""
    x, y = scene.objects[i].centre_xy[0] - origin[0], scene.objects[i].centre_xy[1] - origin[1]
    return {"left": -x, "right": x, "top": -y, "bottom": y}[word]


def _read(scene: Scene, text: str) -> list[int]:
    """Objects that a sentence may mean; written from the words alone, without the generator's descriptions."""
    middle = (scene.size / 2, scene.size / 2)
    for relation, phrases in _RELATIONS.items():
        found = re.fullmatch(
            rf"(?:the|an?) (?P<noun>{_NOUN_PHRASE}) (?:{'|'.join(phrases)}) the (?P<anchor>{_NOUN_PHRASE})",
            text,
        )
        if found is None:
            continue
        anchors, meant = _matching(scene, found["anchor"]), _matching(scene, found["noun"])
        assert len(anchors) == 1, f"{text!r}: which {found['anchor']}?"
        anchor = scene.objects[anchors[0]]
        if relation == "behind":
            return [
                i for i in meant if i < anchors[0] and (scene.objects[i].full_mask & anchor.full_mask).any()
            ]
        return [i for i in meant if i != anchors[0] and _offset(scene, i, relation, anchor.centre_xy) > 0]
    matches = (re.fullmatch(pattern, text) for pattern in (_LONG, *_SHORT))
    found = next((m for m in matches if m is not None), None)
    assert found is not None, f"no reading of {text!r}"
    meant, place = _matching(scene, found["noun"]), found.groupdict().get("place")
    if place is None or not meant:
        return meant
    if place in ("middle", "center"):
        limit = 0.18 * scene.size
        return [i for i in meant if np.abs(np.subtract(scene.objects[i].centre_xy, middle)).max() < limit]
    if " " in place:
        return [i for i in meant if all(_offset(scene, i, word, middle) > 0 for word in place.split())]
    reach = [_offset(scene, i, place, middle) for i in meant]
    near = [i for i, r in zip(meant, reach, strict=True) if r > max(reach) - 0.05 * scene.size]
    return [i for i in near if _offset(scene, i, place, middle) > 0]


@pytest.mark.parametrize("split", SPLITS)
def test_every_sentence_means_its_referent_and_nothing_else(split: str) -> None:
    for index in range(30):
        scene, chosen = split_scene(17, split, index)
        for referent, said in chosen.items():
            for _, text in said:
                assert _read(scene, text) == [referent], text


def test_styles_keep_their_promises() -> None:
    position = re.compile(
        "left|right|top|bottom|middle|center|corner|side|above|below|under|than|behind|covered"
    )
    lengths: dict[str, list[int]] = {"unc": [], "plus": [], "umd": []}
    for index in range(60):
        for said in split_scene(23, "train", index)[1].values():
            assert 1 <= len(said) <= 3 and len({text for _, text in said}) == len(said)
            for style, text in said:
                assert text == text.lower()
                lengths[style].append(len(text.split()))
                if style == "plus":
                    assert not position.search(text), text
    assert min(len(v) for v in lengths.values()) > 80
    assert np.mean(lengths["plus"]) < np.mean(lengths["unc"]) < np.mean(lengths["umd"])


def test_referents_of_the_test_splits() -> None:
    for split, shapes in (("testA", CURVED_SHAPES), ("testB", ANGULAR_SHAPES)):
        for index in range(10):
            scene, chosen = split_scene(1, split, index)
            assert 2 <= len(chosen) <= 4
            assert {scene.objects[i].shape for i in chosen} <= set(shapes)


def test_referents_are_in_one_piece() -> None:
    for index in range(20):
        scene, chosen = split_scene(2, "val", index)
        for i in chosen:
            _, _, stats, _ = cv2.connectedComponentsWithStats(
                scene.objects[i].mask.astype(np.uint8), connectivity=4
            )
            assert stats[1:, cv2.CC_STAT_AREA].max() >= 0.95 * scene.objects[i].mask.sum()


# ---------------------------------------------------------------- the folder


def test_layout_is_that_of_refer(layout: tuple[Path, dict[str, Any]]) -> None:
    root, report = layout
    refs, instances = _tables(root)
    images = {image["id"]: image for image in instances["images"]}
    annotations = {a["id"]: a for a in instances["annotations"]}
    assert len(images) == sum(SCALES["tiny"].values()) and len(annotations) > len(refs)
    assert len({ref["ref_id"] for ref in refs}) == len(refs)
    sent_ids = [s["sent_id"] for ref in refs for s in ref["sentences"]]
    assert len(set(sent_ids)) == len(sent_ids) == sum(report["sentences"].values())
    for ref in refs:
        assert annotations[ref["ann_id"]]["image_id"] == ref["image_id"]
        name = images[ref["image_id"]]["file_name"]
        assert ref["file_name"] == f"{name[:-4]}_{ref['ann_id']}.jpg"
        assert ref["sent_ids"] == [s["sent_id"] for s in ref["sentences"]]
        assert all(s["tokens"] == s["sent"].split() for s in ref["sentences"])
        assert (root / "images" / "train2014" / name).is_file()
    for split in SPLITS:
        assert report["images"][split] == SCALES["tiny"][split]
        assert report["referents"][split] == sum(ref["split"] == split for ref in refs)


def test_annotations_hold_the_exact_masks_in_both_forms(layout: tuple[Path, dict[str, Any]]) -> None:
    _, instances = _tables(layout[0])
    scene, _ = split_scene(3, "train", 0)
    image_id = instances["images"][0]["id"]
    rows = [a for a in instances["annotations"] if a["image_id"] == image_id]
    for item, row in zip(scene.objects, rows, strict=True):
        mask = rle_to_mask(rle_from_segmentation(row["segmentation"], (160, 160)))
        np.testing.assert_array_equal(mask, item.mask)
        assert row["area"] == item.mask.sum()
    forms = {type(a["segmentation"]) for a in instances["annotations"]}
    assert forms == {list, dict}


def test_jpeg_is_the_scene(layout: tuple[Path, dict[str, Any]]) -> None:
    _, instances = _tables(layout[0])
    path = layout[0] / "images" / "train2014" / instances["images"][0]["file_name"]
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    error = np.abs(picture.astype(int) - split_scene(3, "train", 0)[0].image)
    assert picture.shape == (160, 160, 3) and error.mean() < 6


def test_boxes_and_ellipses_are_bad_masks(layout: tuple[Path, dict[str, Any]]) -> None:
    _, report = layout
    assert report["filled_box_iou"] < report["ellipse_iou"] <= 0.60
    assert 55 <= report["words"] <= 75
    assert 2.0 <= report["sentences_per_referent"] <= 3.0
    assert report["occluded_share"] > 0.2


def test_same_seed_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    counts = {"train": 6, "val": 2, "testA": 1, "testB": 1}
    write_refer_layout(tmp_path / "one", "tiny", 3, counts=counts)
    write_refer_layout(tmp_path / "two", "tiny", 3, counts=counts, workers=2)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    write_refer_layout(tmp_path / "other", "tiny", 4, counts=counts)
    assert _files(tmp_path / "one") != _files(tmp_path / "other")


def test_larger_scale_only_appends(tmp_path: Path, layout: tuple[Path, dict[str, Any]]) -> None:
    write_refer_layout(tmp_path, "tiny", 3, counts={"train": 3, "val": 2})
    few, many = _tables(tmp_path), _tables(layout[0])
    assert all(ref in many[0] for ref in few[0])
    assert all(image in many[1]["images"] for image in few[1]["images"])
    pictures = {k: v for k, v in _files(tmp_path).items() if k.endswith(".jpg")}
    assert len(pictures) == 5 and pictures.items() <= _files(layout[0]).items()


def test_unknown_scale(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scale 'huge'"):
        write_refer_layout(tmp_path, "huge", 0)
    assert not list(tmp_path.iterdir())
