"""SCHEMA.md and stages/artifacts/schema.toml say the same: every column, its type, its shape, whether it may be absent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stages.artifacts.schema import KINDS, LARGEST_SIDE, SCHEMAS, Column, RaggedColumn

DOCUMENT = Path(__file__).resolve().parents[2] / "stages" / "artifacts" / "SCHEMA.md"
# Told in the text, not in a table: what every kind may have, and the JSON texts of models.
TOLD_IN_TEXT = {
    "summary", "architecture", "vocabulary", "preprocessing", "history", "selection", "held_out_referent",
    "decisions/sam_score",
}  # fmt: skip


def sections() -> dict[str, tuple[int, str]]:
    """Kind -> version, text."""
    found = {}
    for part in re.split(r"^### ", DOCUMENT.read_text("utf-8"), flags=re.M)[1:]:
        heading, _, text = part.partition("\n")
        if match := re.match(r"([\w, ]+?), version (\d+)", heading):
            for kind in match[1].split(" and "):
                found[kind] = (int(match[2]), text.split("\n## ")[0])
    return found


def rows(text: str) -> dict[str, tuple[str, str, bool]]:
    """Path -> type, shape, may be absent; a row may name several columns with the same type, or one type each."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        paths = re.findall(r"`([\w/]+)`", cells[0])
        if not line.startswith("| `") or len(cells) < 3:
            continue
        types = cells[1].split(", ")
        for i, path in enumerate(paths):
            found[path] = (types[i % len(types)], cells[2], "MAY" in cells[0])
    return found


def in_words(column: Column | RaggedColumn) -> tuple[str, str]:
    if isinstance(column, RaggedColumn):
        tail = f", (k, {', '.join(map(str, column.tail))})" if column.tail else ""
        return f"ragged {column.type}", f"{column.rows}{tail}"
    return ("JSON" if column.type == "json" else column.type), column.dims


def test_every_kind_has_a_section_with_its_version() -> None:
    assert {kind: version for kind, (version, _) in sections().items()} == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_of_the_code_is_described(kind: str) -> None:
    text, columns = sections()[kind][1], SCHEMAS[kind].columns
    table = rows(text)
    for path, column in columns.items():
        if path in TOLD_IN_TEXT and path not in table:
            assert path.split("/")[-1] in DOCUMENT.read_text("utf-8"), path
            continue
        kind_of, shape, may_be_absent = table[path]
        type_in_code, shape_in_code = in_words(column)
        # "masks/rle, points_xy | ragged": one row for two ragged columns names neither type nor tail
        assert type_in_code.startswith(kind_of) and shape_in_code.startswith(shape), path
        assert may_be_absent != column.required, path
    for attribute in SCHEMAS[kind].attributes:
        assert f"`{attribute}`" in text, attribute


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_of_the_document_is_checked_by_the_code(kind: str) -> None:
    assert set(rows(sections()[kind][1])) <= set(SCHEMAS[kind].columns)


def test_the_table_and_the_code_agree_on_the_largest_picture() -> None:
    sides = [SCHEMAS["dataset"].columns[f"images/{side}"] for side in ("height", "width")]
    assert [side.largest for side in sides if isinstance(side, Column)] == [LARGEST_SIDE] * 2


def test_the_comparison_sees_a_difference() -> None:
    table = "| `a`, `b` *(MAY)* | int, text | N | words |"
    assert rows(table) == {"a": ("int", "N", True), "b": ("text", "N", True)}
