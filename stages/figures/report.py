"""One static HTML page with relative links: figures with captions, tables, charts. No script, no network.

Every text goes through `html.escape`: sentences and file names come from data and are not trusted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from stages.errors import ArtifactError

INDEX = "index.html"
_MARK = '<meta name="generator" content="seqres">'

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$mark
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p.note { color: #555; max-width: 50rem; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; border: 1px solid #ddd; }
figcaption { color: #444; font-size: .9rem; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts svg { max-width: 100%; height: auto; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.key span { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; border: 1px solid #333; vertical-align: -.1em; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Figure:
    """A picture file of the page's folder. `alt` tells its content to those who cannot see it."""

    file: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """What stands under one heading; empty parts take no room. `charts` are SVG texts made by `curves`."""

    heading: str
    note: str = ""
    figures: Sequence[Figure] = ()
    charts: Sequence[str] = ()
    table: Sequence[Mapping[str, object]] = ()  # rows with the same keys
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # key to the drawings


def page(title: str, intro: str, sections: Sequence[Section]) -> str:
    """The HTML text."""
    body = [f'<p class="note">{escape(intro)}</p>'] if intro else []
    for section in sections:
        body += _section_lines(section)
    return _PAGE.substitute(title=escape(title), mark=_MARK, body="\n".join(body))


def write_folder(folder: Path, html: str, files: Mapping[str, bytes]) -> None:
    """Replace `folder` by one that holds `index.html` and `files` (name -> content), all at once.

    The new folder is complete before it takes the old one's place. Killed in between, the old one is left, or
    none.

    Raises:
        ArtifactError: `folder` exists and was not written by this function, see `require_replaceable`.
    """
    require_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name, content in {**files, INDEX: html.encode("utf-8")}.items():
            (fresh / name).write_bytes(content)
        fresh.chmod(0o777 & ~_umask())
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_replaceable(folder: Path) -> None:
    """ArtifactError unless `folder` is absent, empty, or a page of ours: nothing else is ever deleted."""
    if not folder.exists():
        return
    if folder.is_dir():
        index = folder / INDEX
        if not any(folder.iterdir()):
            return
        if index.is_file() and _MARK.encode() in index.read_bytes()[:2000]:
            return
    raise ArtifactError(
        f"{folder} exists and is not a page that seqres wrote",
        facts=["its content would be replaced"],
        hint="choose another folder with --figures, or remove it",
    )


def is_page(folder: Path) -> bool:
    """Whether `write_folder` has finished there."""
    return (folder / INDEX).is_file()


def _section_lines(section: Section) -> list[str]:
    lines = [f"<h2>{escape(section.heading)}</h2>"]
    if section.note:
        lines.append(f'<p class="note">{escape(section.note)}</p>')
    if section.colours:
        keys = "".join(
            f'<span style="background: rgb({r}, {g}, {b})"></span>{escape(name)}'
            for name, (r, g, b) in section.colours.items()
        )
        lines.append(f'<p class="key">{keys}</p>')
    if section.table:
        lines += _table_lines(section.table)
    if section.charts:
        lines += ['<div class="charts">', *section.charts, "</div>"]
    for figure in section.figures:
        lines += [
            "<figure>",
            f'<img src="{escape(quote(figure.file))}" alt="{escape(figure.alt)}" loading="lazy">',
            f"<figcaption>{escape(figure.caption)}</figcaption>",
            "</figure>",
        ]
    return lines


def _table_lines(rows: Sequence[Mapping[str, object]]) -> list[str]:
    heads = "".join(f"<th>{escape(str(key))}</th>" for key in rows[0])
    lines = ['<div class="table"><table>', f"<tr>{heads}</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>")
    return [*lines, "</table></div>"]


def _cell(value: object) -> str:
    if value is None:
        return '<td class="number">–</td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
        return f'<td class="number">{text}</td>'
    return f"<td>{escape(str(value))}</td>"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
