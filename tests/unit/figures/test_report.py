"""The page: escaped, relative, complete or not there."""

from __future__ import annotations

import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stages.errors import ArtifactError
from stages.figures import report
from stages.figures.charts import line_chart
from stages.figures.report import Figure, Section, page, require_replaceable, write_folder

EVIL = '<script>alert("x")</script> & $title'


class Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_every_text_is_escaped_and_shown() -> None:
    figure = Figure('a b"<.png', EVIL, EVIL)
    row = {EVIL: EVIL, "n": 1234, "share": 0.5, "none": None}
    read = Reader(page(EVIL, EVIL, [Section(EVIL, EVIL, [figure], table=[row], colours={EVIL: (1, 2, 3)})]))
    assert "script" not in read.tags
    assert read.words.count(EVIL) == 9  # title, h1, intro, heading, note, caption, key, table head and cell
    assert read.sources == ["a%20b%22%3C.png"] * 2  # a picture leads to itself in full size
    assert "1,234" in read.words and "0.500" in read.words


HOSTILE_NAMES = (
    "javascript:alert(1)",
    "//evil.example/x.png",
    "data:text/html,<script>",
    'a" onerror="x',
    "\udc80",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_file_name_is_never_an_address_or_an_attribute(name: str) -> None:
    html = page("t", "", [Section("s", figures=[Figure(name, "c", 'x" onload="y')])], links={name: EVIL})
    read = Reader(html)
    assert len(read.sources) == 3  # picture, the link round it, download
    for source in read.sources:
        parts = urlsplit(source)
        assert not parts.scheme and not parts.netloc and "/" not in source
    assert not {"onerror", "onload"} & {key for _, key, _ in read.attributes}
    assert ("img", "alt", 'x" onload="y') in read.attributes
    assert "script" not in read.tags and EVIL in read.words


def test_only_our_own_charts_are_markup() -> None:
    chart = line_chart(EVIL, {EVIL: [(1, 1), (2, 2)]}, x_label="x", y_label="y")
    read = Reader(page("t", "", [Section("s", charts=[chart])]))
    assert "svg" in read.tags and "script" not in read.tags
    forged = Reader(page("t", "", [Section("s", charts=["<svg><script></script></svg>"])]))  # type: ignore[list-item]
    assert not {"svg", "script"} & set(forged.tags)


def test_text_that_no_file_can_hold_does_not_stop_the_page(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", page("t \udc80", "", [Section("s", table=[{"file": "\udcff.h5"}])]), {})
    assert "?.h5" in (tmp_path / "p" / "index.html").read_text("utf-8")


def test_the_page_is_wrapped_for_people_who_hear_or_zoom_it() -> None:
    read = Reader(page("t", "", [Section("s", table=[{"a": True, "b": None}], colours={"k": (1, 2, 3)})]))
    assert ("html", "lang", "en") in read.attributes and read.tags.count("th") == 3
    assert {("th", "scope", "col"), ("th", "scope", "row")} <= set(read.attributes)
    assert {"main", "section", "thead"} <= set(read.tags)
    assert any(key == "name" and value == "viewport" for _, key, value in read.attributes)
    assert "True" in read.words and "–" in read.words


def test_a_new_folder_replaces_an_old_page_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "figures"
    write_folder(folder, page("one", "", []), {"old.png": b"1"})
    write_folder(folder, page("two", "", []), {"new.png": b"2"})
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "new.png"]
    assert "two" in (folder / "index.html").read_text("utf-8")
    assert [p.name for p in folder.parent.iterdir()] == ["figures"]
    (tmp_path / "plain").mkdir()
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(ArtifactError, match=f"{tmp_path} exists and is not a page"):
        write_folder(tmp_path, page("t", "", []), {})
    assert (tmp_path / "index.html").read_text() == "<html>mine</html>"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="file exists and is not a page"):
        require_replaceable(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    require_replaceable(tmp_path / "empty")


def test_a_failed_write_leaves_the_old_page(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    write_folder(folder, page("one", "", []), {"old.png": b"1"})
    with pytest.raises(ArtifactError, match=r"cannot write .*figures: no such file"):
        write_folder(folder, page("two", "", []), {"missing/inner.png": b"2"})
    assert (folder / "old.png").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]


def test_the_templates_belong_to_the_package() -> None:
    setuptools = pytest.importorskip("setuptools")
    root = Path(report.__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = setuptools.find_namespace_packages(str(root), include=settings["packages"]["find"]["include"])
    assert {"stages.figures.templates", "stages.figures.templates.report"} <= set(found)
    shipped = settings["package-data"]["*"]
    assert all(f"*{p.suffix}" in shipped for p in (root / "stages/figures/templates").rglob("*.*"))


def test_what_somebody_put_beside_the_page_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    write_folder(folder, page("one", "", []), {"a b.png": b"1"})
    require_replaceable(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds files that seqres did not write") as caught:
        write_folder(folder, page("two", "", []), {})
    assert caught.value.facts[1:] == ("notes.txt",)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("behind")
    for name in ("one.png", "two.png"):
        write_folder(tmp_path / "link", page("t", "", []), {name: b"1"})
    assert (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in (tmp_path / "behind").iterdir()) == ["index.html", "two.png"]
