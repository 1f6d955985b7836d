"""One static HTML page with relative links: figures with captions, tables, charts. No script, no network.

Pages are jinja2 templates beside this file. Sentences and file names come from data and are not trusted: the templates
escape every value, and a link leads to a file of the page's folder, never elsewhere.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from markupsafe import Markup

from stages.artifacts.whole_folder import whole_folder
from stages.errors import ArtifactError

if TYPE_CHECKING:
    from jinja2 import Environment

INDEX = "index.html"
_MARK = '<meta name="generator" content="seqres">'  # stands in templates/base.html
_LIST = "files of this page"


@dataclass(frozen=True)
class Figure:
    """A picture file of the page's folder. `alt` tells its content to those who cannot see it."""

    file: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """What stands under one heading; empty parts take no room. `charts` are SVG elements that `charts` drew."""

    heading: str
    note: str = ""
    figures: Sequence[Figure] = ()
    charts: Sequence[Markup] = ()
    table: Sequence[Mapping[str, object]] = ()  # rows with the same keys
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # key to the drawings


def page(title: str, intro: str, sections: Sequence[Section], links: Mapping[str, str] | None = None) -> str:
    """The HTML text. `links`: file of the page's folder -> its words."""
    template = templates().get_template("page.html")
    return template.render(title=title, intro=intro, sections=sections, links=links or {}) + "\n"


def write_folder(folder: Path, html: str, files: Mapping[str, bytes]) -> None:
    """Replace `folder` by one that holds `index.html` and `files` (name -> content), all at once.

    Raises:
        ArtifactError: `folder` exists and was not written by this function, see `require_replaceable`.
    """
    with fresh_folder(folder) as fresh:
        for name, content in {**files, INDEX: html.encode("utf-8", "replace")}.items():
            (fresh / name).write_bytes(content)


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write a page into, `index.html` too; complete, it takes the place of `folder`.

    The page is told what lies beside it, so that nothing else is ever deleted with it. After an error or a kill the
    old one is as it was.

    Raises:
        ArtifactError: `folder` exists and is not a page of ours alone, see `require_replaceable`.
    """
    folder = Path(os.path.realpath(folder))
    require_replaceable(folder)
    with whole_folder(folder) as fresh:
        yield fresh
        names = sorted(path.name for path in fresh.iterdir() if path.name != INDEX)
        with open(fresh / INDEX, "a", encoding="utf-8") as page:
            page.write(f"\n<!-- {_LIST}: {' '.join(quote(name) for name in names)} -->\n")
        require_replaceable(folder)


def require_replaceable(folder: Path) -> None:
    """ArtifactError unless `folder` is absent, empty, or a page of ours and nothing else: only that is ever deleted."""
    if not folder.exists():
        return
    index, others = folder / INDEX, []
    if folder.is_dir():
        if not any(folder.iterdir()):
            return
        if index.is_file() and _MARK.encode() in index.read_bytes()[:2000]:
            others = _others(folder, index)
            if not others:
                return
    raise ArtifactError(
        f"{folder} exists and is not a page that seqres wrote"
        if not others
        else f"{folder} holds files that seqres did not write",
        facts=["its content would be replaced", *others[:3]],
        hint="choose another folder, or remove it"
        if not others
        else f"move {others[0]} elsewhere, or choose another folder",
    )


def _others(folder: Path, index: Path) -> list[str]:
    """What somebody else has put beside the page; pages of earlier versions do not tell."""
    found = re.search(rf"<!-- {_LIST}: (.*) -->\s*\Z", index.read_text("utf-8", errors="replace"))
    if found is None:
        return []
    ours = {INDEX, ".DS_Store", "Thumbs.db", *(unquote(name) for name in found[1].split())}
    return sorted(path.name for path in folder.iterdir() if path.name not in ours)


def is_page(folder: Path) -> bool:
    """Whether `write_folder` has finished there."""
    return (folder / INDEX).is_file()


@functools.cache
def templates() -> Environment:
    """Every value is escaped, whatever the template is called; only `Markup`, made here and by `charts`, is not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["file_name"] = lambda name: quote(name, safe="", errors="replace")
    return environment
