"""The examples of every command's --help run as they stand, on small files of the kinds that they name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from seqres_cli.commands import COMMANDS
from tests.oracles.typed_commands import run_typed

EXAMPLES = sorted({example for command in COMMANDS.values() for example in command.examples})


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run_as_they_stand(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_typed(shlex.split(example), tmp_path)
