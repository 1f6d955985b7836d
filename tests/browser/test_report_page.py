"""The report as a person uses it: filter, sort, look, judge by keyboard, download, come back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stages.artifacts import open_artifact
from stages.resample_points import Config, run
from tests.browser.conftest import HOSTILE


def texts(page: Any) -> list[str]:
    found: list[str] = page.locator(".card h3").all_text_contents()
    return found


def count(page: Any) -> str:
    return str(page.locator("#found").text_content())


def test_cards_are_filtered_sorted_and_paged(page: Any) -> None:
    assert count(page) == "50 of 50 cards"
    assert len(texts(page)) == 24
    page.fill("[name=words]", "LEFT thing")
    assert count(page) == "17 of 50 cards"
    page.fill("[name=words]", "CAFE")  # without its accent
    assert texts(page) == [HOSTILE]
    page.fill("[name=words]", "")
    page.select_option("[name=status]", "why:score above threshold")
    assert count(page) == "25 of 50 cards"
    page.select_option("[name=sort]", "-cf")
    assert texts(page)[0] == "thing 49"
    page.click("#next")
    assert len(texts(page)) == 1
    assert page.locator("#next").is_disabled()
    page.click("button[type=reset]")
    page.wait_for_function("document.querySelector('#found').textContent.startsWith('50')")
    page.fill("[name=sc-high]", "0.1")
    assert count(page) == "25 of 50 cards"
    page.fill("[name=words]", "no such word")
    assert count(page) == "No card is left; clear the filters."


def test_text_of_data_is_never_markup(page: Any) -> None:
    assert HOSTILE in texts(page)
    assert page.title() == "seqres report: small-0"
    assert page.locator("img[src=x]").count() == 0


def test_layers_and_numbered_points_are_drawn_and_switched(page: Any) -> None:
    layers = "#cards .card:first-child [data-layer]"
    assert page.locator(layers).evaluate_all("all => all.map(e => e.dataset.layer)") == [
        "pseudo",
        "resampled",
    ]
    page.get_by_label("resampled", exact=True).uncheck()
    page.wait_for_function(f"document.querySelectorAll('{layers}').length === 1")
    page.get_by_label("numbered points").check()
    page.wait_for_selector("#cards .card:first-child svg text")
    page.locator(".card .zoom").first.click()
    page.wait_for_selector("#large svg text")
    assert page.locator("#large svg text").first.text_content() == "1"
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()


def test_the_attention_sliders_move_over_points_and_layers(page: Any) -> None:
    slider = page.locator("#attention-point")
    page.wait_for_selector("#attention-view circle")
    assert page.locator("#attention-number").text_content() == "1 of 4"

    def seen() -> Any:
        return page.evaluate("document.querySelector('#attention-view canvas').toDataURL()")

    first = seen()
    slider.focus()
    page.keyboard.press("End")
    assert page.locator("#attention-number").text_content() == "4 of 4"
    last_layer = seen()
    assert last_layer != first
    assert page.locator("#attention-depth").text_content() == "2 of 2"
    page.locator("#attention-layer").focus()
    page.keyboard.press("Home")
    assert page.locator("#attention-depth").text_content() == "1 of 2"
    assert seen() != last_layer
    page.select_option("#attention-sample", "1")
    page.wait_for_function("document.querySelector('#attention-view img').src.endsWith('picture-51.jpg')")


def judge(page: Any) -> None:
    """By keyboard: keep a dropped one, drop a kept one, be unsure, take one back."""
    page.locator(".card").first.focus()
    for key in ("r", "a", "u", "r", "z"):  # thing 0, 1, 2, 3 and 3 taken back
        page.keyboard.press(key)


def test_judging_by_keyboard_survives_a_reload_and_reaches_the_points(
    page: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    judge(page)
    words = "3 of 50 decided: 1 accepted, 1 rejected, 1 unsure"
    assert page.locator("#review-count").text_content() == words
    page.reload()
    page.wait_for_selector(".card svg path")
    assert page.locator("#review-count").text_content() == words
    assert page.locator(".card").first.get_attribute("data-verdict") == "reject"
    page.select_option("[name=decision]", "accept")
    assert texts(page) == ["thing 1"]
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "decisions.json"
    path = tmp_path / "decisions.json"
    download.value.save_as(path)
    content = json.loads(path.read_text("utf-8"))
    assert [(d["ref_id"], d["referent_index"], d["verdict"]) for d in content["decisions"]] == [
        (1, 0, "reject"), (2, 1, "accept"), (3, 2, "unsure"),
    ]  # fmt: skip
    run(Config(), dataset=files["data"], pseudo=files["pseudo"], decisions=path, out=tmp_path / "points.h5")
    with open_artifact(files["points"]) as before, open_artifact(tmp_path / "points.h5") as after:
        changed = set(before["referent_index"].tolist()) ^ set(after["referent_index"].tolist())
        assert changed == {0, 1}
        assert after.strings("decisions/reason")[:2] == ["review: rejected", "kept"]


def test_decisions_of_a_file_are_taken_over_and_foreign_ones_refused(
    page: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    page.locator(".card").first.get_by_role("button", name="Accept").click()
    assert (
        page.locator(".card").first.get_by_role("button", name="Accept").get_attribute("aria-pressed")
        == "true"
    )
    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / "decisions.json"
    download.value.save_as(path)
    page.click("#undo")
    assert page.locator("#review-count").text_content().startswith("0 of 50")
    page.set_input_files("#upload", path)
    page.wait_for_function("document.querySelector('#review-note').textContent.includes('taken over')")
    assert page.locator("#review-count").text_content().startswith("1 of 50 decided: 1 accepted")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(path.read_text()), "dataset_digest": "0" * 64}))
    page.set_input_files("#upload", other)
    page.wait_for_function("document.querySelector('#review-note').textContent.includes('another data set')")


def test_a_phone_needs_no_sideways_scrolling(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_violation_of_accessibility(page: Any, scheme: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    judge(page)
    axe = Path(os.environ.get("SEQRES_AXE", "/nowhere"))
    if not axe.is_file():
        pytest.skip("axe-core not found (npm pack axe-core, then set SEQRES_AXE to its axe.min.js)")
    page.evaluate(axe.read_text("utf-8"))
    found = page.evaluate(
        "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)]))"
    )
    assert [v for v in found if v[0] in ("serious", "critical")] == []
