"""A function can be read on a screen: a stage's `run` is open -> check -> compute -> write."""

from __future__ import annotations

import ast
from pathlib import Path

LONGEST = 70
ROOT = Path(__file__).resolve().parents[2]


def lengths() -> dict[str, int]:
    found: dict[str, int] = {}
    for path in sorted((ROOT / "stages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                name = f"{path.relative_to(ROOT)} {node.name}"
                found[name] = max(found.get(name, 0), node.end_lineno - node.lineno + 1)
    return found


def test_no_function_is_longer_than_a_screen() -> None:
    assert not {name: lines for name, lines in lengths().items() if lines > LONGEST}
