"""The `--help` of a command: options under headings, one line each where the terminal is wide enough.

Former names of flags are taken and shown nowhere.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from stages.config import Panel

_WIDEST_FLAG = 28  # letters of the column of flags; a longer one has its text below it
_NARROW = 70  # letters of a terminal in which every text stands below its flag
_ORDER = [*typing.get_args(Panel)]


class HelpPage(TyperCommand):
    former_flags: Mapping[str, str] = {}  # "--outline" -> "--contour"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [self._present(word) for word in args])

    def _present(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        return self.former_flags.get(flag, flag) + equals + value

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if "--help" in parameter.opts:
                panels.setdefault("Run", []).append((", ".join(parameter.opts), "show this message and exit"))
            elif record is not None:
                flag = f"--[no-]{parameter.opts[0][2:]}" if parameter.secondary_opts else record[0]
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                panels.setdefault(panel, []).append(
                    (flag.split(" <")[0] if flag[0] != "-" else flag, record[1])
                )
        shown = sorted(panels, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
        widest = max(len(flag) for rows in panels.values() for flag, _ in rows)
        for name in shown:
            with formatter.section(name):
                write_rows(formatter, panels[name], min(widest, _WIDEST_FLAG))


def write_rows(formatter: Any, rows: list[tuple[str, str]], width: int) -> None:
    """Flags padded to `width` letters with their texts beside them, or below them on a narrow terminal."""
    if formatter.width >= _NARROW:
        formatter.write_dl([(flag.ljust(width), text) for flag, text in rows], col_max=width)
        return
    for flag, text in rows:
        formatter.write(f"{'':>{formatter.current_indent}}{flag}\n")
        with formatter.indentation(), formatter.indentation():
            formatter.write_text(text)
