"""Write docs/reference.md: every command with its options and examples, as `--help` shows them.

    python scripts/make_reference.py

A test compares the file with what this makes.
"""

from __future__ import annotations

from pathlib import Path

from typer import Context

from seqres_cli.commands import COMMANDS
from seqres_cli.help_page import HelpPage

PATH = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
HEAD = """# Commands

Made by `scripts/make_reference.py` from the code; do not edit. The words are explained in the [glossary](glossary.md).
"""


def reference() -> str:
    """The whole page."""
    contents = [f"- [`seqres {name}`](#seqres-{name}): {_summary(name)}" for name in COMMANDS]
    return "\n".join([HEAD, *contents, *(line for name in COMMANDS for line in _command(name)), ""])


def _summary(name: str) -> str:
    return str(COMMANDS[name].help).strip().splitlines()[0]


def _command(name: str) -> list[str]:
    command = COMMANDS[name]
    page: HelpPage = command.build()
    lines = ["", f"## seqres {name}", "", str(command.help).strip(), ""]
    lines += ["```bash", *command.examples, "```"]
    for panel, rows in page.panels(Context(page, info_name=f"seqres {name}")).items():
        lines += ["", f"### {name}: {panel.lower()}", "", "| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(flag)}` | {_cell(text)} |" for flag, text in rows]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
