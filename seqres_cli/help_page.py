"""The `--help` of a command: options under headings, one line each where the terminal is wide enough.

Former names of flags are taken and shown nowhere.
"""

import typing
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from stages.config import Panel

_WIDEST_FLAG = 28  # letters of the column of flags; a longer one has its text below it
_NARROW = 70  # letters of a terminal in which every text stands below its flag


class HelpPage(TyperCommand):
    former_flags: Mapping[str, str] = {}  # "--outline" -> "--contour"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parts = [word.partition("=") for word in args]
        return super().parse_args(ctx, [self.former_flags.get(f, f) + equals + v for f, equals, v in parts])

    def panels(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Heading -> (flag, text) of its options, in the order in which they are shown."""
        found: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if "--help" in parameter.opts:
                found.setdefault("Run", []).append((", ".join(parameter.opts), "show this message and exit"))
            elif record is not None:
                flag = f"--[no-]{parameter.opts[0][2:]}" if parameter.secondary_opts else record[0]
                flag = flag if flag.startswith("-") else flag.split(" <")[0]
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                found.setdefault(panel, []).append((flag, record[1]))
        return {name: found[name] for name in typing.get_args(Panel) if name in found}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels = self.panels(ctx)
        width = min(_WIDEST_FLAG, max(len(flag) for rows in panels.values() for flag, _ in rows))
        for name, rows in panels.items():
            with formatter.section(name):
                write_rows(formatter, rows, width)


def write_rows(formatter: Any, rows: list[tuple[str, str]], width: int) -> None:
    """Flags padded to `width` letters with their texts beside them, or below them on a narrow terminal."""
    if formatter.width >= _NARROW:
        formatter.write_dl([(flag.ljust(width), text) for flag, text in rows], col_max=width)
        return
    for flag, text in rows:
        formatter.write(f"{'':>{formatter.current_indent}}{flag}\n")
        with formatter.indentation(), formatter.indentation():
            formatter.write_text(text)
