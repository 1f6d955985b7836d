"""The object scale of RefShapes: kinds, their names, scenes, and that the bytes are the same everywhere."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.data.refshapes.folder import SCALES, Scene, split_scene, write_refer_layout
from stages.data.refshapes.kinds import everyday, kinds, kinds_of
from stages.data.refshapes.object_scenes import figure_of, generate_object_scene, silhouette
from stages.data.refshapes.sentences import _ANY_SHAPE, _SIZE_WORDS
from stages.data.refshapes.shapes import COLOURS
from stages.geometry.rasterise import rle_from_segmentation, rle_to_mask

PLACES = {
    "left",
    "right",
    "top",
    "bottom",
    "middle",
    "center",
    "corner",
    "side",
    "above",
    "below",
    "under",
    "than",
    "behind",
    "covered",
    "most",
}
# sha256 of pixels and masks of three scenes: no processor's rounding shows in them
DIGEST = "7156a66756370d275db27c5db31dade492c7dc06dc7687289e57d20250209d92"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_object_scene(np.random.default_rng([11, i])) for i in range(30)]


def _drawn(name: str, extent: float = 64.0) -> np.ndarray:
    figure = figure_of(kinds()[name], extent, 0.0)
    return figure.cover(np.array([extent / 2, extent / 2]) + 2, (int(extent) + 4, int(extent) + 4))[0] >= 0.5


def test_there_are_hundreds_of_kinds_of_both_families() -> None:
    assert len(kinds()) >= 300
    assert set(kinds_of("thing")) | set(kinds_of("sign")) == set(kinds())
    assert min(len(kinds_of("thing")), len(kinds_of("sign"))) >= 70


def test_no_name_holds_a_word_that_means_a_place_a_size_or_a_colour() -> None:
    taken = {*PLACES, *COLOURS, *_ANY_SHAPE, *(word for words in _SIZE_WORDS.values() for word in words)}
    for name in kinds():
        assert re.fullmatch("[a-z-]+( [a-z-]+)*", name), name
        assert not taken & set(name.split()), name


def test_every_kind_is_in_one_piece() -> None:
    for name in kinds():
        mask = _drawn(name)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
        assert stats[1:, cv2.CC_STAT_AREA].max() >= 0.95 * mask.sum(), name


def test_no_two_kinds_look_alike() -> None:
    """Outlines and what is drawn on them, at 36 pixels: no pair overlaps by 0.95."""
    looks = []
    for kind in kinds().values():
        covers = figure_of(kind, 36, 0.0).covers(np.array([20.0, 20.0]), (0, 0, 40, 40))
        drawn = [cover for tone, cover in covers if tone > 0]
        details = np.max(drawn, axis=0) if drawn else np.zeros((40, 40), np.float32)
        looks.append(np.concatenate([silhouette(covers).ravel(), details.ravel()]))
    names = list(kinds())
    for i, look in enumerate(looks[1:], start=1):
        before = np.array(looks[:i])
        overlap = np.minimum(before, look).sum(axis=1) / np.maximum(before, look).sum(axis=1)
        assert overlap.max() < 0.95, (names[i], names[int(overlap.argmax())])


@pytest.mark.parametrize("name", ["letter o", "letter a", "castle", "key"])
def test_holes_are_no_part_of_an_object(name: str) -> None:
    mask = _drawn(name)
    filled = mask.astype(np.uint8)
    rings, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, rings, -1, 1, cv2.FILLED)
    assert filled.sum() > mask.sum() + 30


def test_a_card_is_its_silhouette() -> None:
    """Faces and cards are drawn in lines; the object is what the lines enclose."""
    mask = _drawn("smiling face")
    assert mask.sum() == pytest.approx(np.pi * 32**2, rel=0.05)


def test_scenes_keep_what_the_sentences_rely_on(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (160, 160, 3) and scene.image.dtype == np.uint8
        assert 3 <= len(scene.objects) <= 5
        assert np.sum([item.mask for item in scene.objects], axis=0).max() <= 1
        for item in scene.objects:
            rows, columns = np.nonzero(item.mask)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(item.box_xyxy, expected)
            assert item.shape in kinds() and item.colour in COLOURS


def test_part_of_many_objects_looks_like_what_lies_behind(scenes: list[Scene]) -> None:
    """Colour alone does not find an object: inside it are colours that are far from its own in many objects."""
    far = []
    for scene in scenes:
        for item in scene.objects:
            pixels = scene.image[item.mask].astype(float)
            away = np.abs(pixels - np.median(pixels, axis=0)).max(axis=1)
            far.append(np.mean(away > 60) > 0.15)
    assert np.mean(far) > 0.4


def test_silhouette_leaves_holes_out() -> None:
    full, hole = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    hole[1, 1] = 1
    assert silhouette([(0, full), (-1, hole)]).sum() == 15


def test_a_sentence_of_looks_fits_one_object() -> None:
    """Read anew from the words: size, colour and kind of a "plus" sentence."""
    sizes = {word: size for size, words in _SIZE_WORDS.items() for word in words}
    read = 0
    for index in range(25):
        scene, chosen = split_scene(5, "val", index, of="objects")
        for referent, said in chosen.items():
            for text in (text for style, text in said if style == "plus"):
                words = text.split()
                size = sizes.get(words[0])
                colour = next((w for w in words if w in COLOURS), None)
                name = " ".join(w for w in words if w not in sizes and w not in COLOURS)
                fits = [
                    i
                    for i, o in enumerate(scene.objects)
                    if size in (None, o.size_name)
                    and colour in (None, o.colour)
                    and (name in _ANY_SHAPE or name == o.shape)
                ]
                assert fits == [referent], text
                read += 1
    assert read > 40


@pytest.mark.parametrize(("split", "family"), [("testA", "thing"), ("testB", "sign")])
def test_referents_of_the_test_splits(split: str, family: str) -> None:
    for index in range(6):
        scene, chosen = split_scene(1, split, index, of="objects")
        assert {scene.objects[i].shape for i in chosen} <= set(
            kinds_of("thing" if family == "thing" else "sign")
        )


def test_the_same_pixels_on_every_machine() -> None:
    digest = hashlib.sha256()
    for index in range(3):
        scene = generate_object_scene(np.random.default_rng([7, index]))
        digest.update(scene.image.tobytes())
        for item in scene.objects:
            digest.update(item.shape.encode() + np.packbits(item.mask).tobytes())
    assert digest.hexdigest() == DIGEST


def test_folder_holds_kinds_as_categories_and_exact_masks(tmp_path: Path) -> None:
    """Through the files that the reader takes; val shows kinds that no training picture of this size refers to."""
    counts = {"train": 12, "val": 6}
    write_refer_layout(tmp_path / "one", "objects-tiny", 3, counts=counts)
    write_refer_layout(tmp_path / "two", "objects-tiny", 3, counts=counts, workers=2)
    for file in sorted((tmp_path / "one").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    instances = json.loads((tmp_path / "one" / "refshapes" / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in instances["categories"]}
    assert list(names.values()) == list(kinds())
    scene, _ = split_scene(3, "train", 0, of="objects")
    rows = [a for a in instances["annotations"] if a["image_id"] == instances["images"][0]["id"]]
    for item, row in zip(scene.objects, rows, strict=True):
        assert names[row["category_id"]] == item.shape
        mask = rle_to_mask(rle_from_segmentation(row["segmentation"], (160, 160)))
        np.testing.assert_array_equal(mask, item.mask)
    shown = {split: set() for split in counts}
    for a in instances["annotations"]:
        shown["train" if a["image_id"] < 2_000_000 else "val"].add(names[a["category_id"]])
    assert shown["val"] - shown["train"]


def test_the_demo_shows_few_kinds_in_plainer_pictures(tmp_path: Path) -> None:
    demo = everyday("demo")
    assert set(demo) < set(everyday()) < set(kinds())
    write_refer_layout(tmp_path, "objects-demo", 3, counts={"train": 6})
    instances = json.loads((tmp_path / "refshapes" / "instances.json").read_text())
    assert [c["name"] for c in instances["categories"]] == list(demo)
    assert {c["supercategory"] for c in instances["categories"]} == {"object"}
    scene, _ = split_scene(3, "train", 0, of="demo")
    shown = [a["category_id"] for a in instances["annotations"] if a["image_id"] == 1_000_000]
    assert [demo[c - 1] for c in shown] == [item.shape for item in scene.objects]
    again = generate_object_scene(np.random.default_rng([7, 0]), known=demo, camouflaged=0.0, clutter=(0, 1))
    assert {item.shape for item in again.objects} <= set(demo)


def test_object_scales_are_as_large_as_those_of_shapes_with_fewer_masks_in_a_hundredth() -> None:
    for scale, other in (("objects-tiny", "tiny"), ("objects-smoke", "smoke")):
        assert SCALES[scale] == SCALES[other]
    assert SCALES["objects"] == {**SCALES["standard"], "train": 3_000}
