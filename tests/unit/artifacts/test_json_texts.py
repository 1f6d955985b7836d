"""JSON texts of a stranger's file: parsed within bounds, and nothing that cannot be written again."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from seqres_cli.commands.inspect import description_lines
from stages import export_weights
from stages.artifacts.json_forms import tidy_record
from stages.errors import ArtifactError
from stages.untrusted import parse_json
from tests.oracles.random_models import write_random_model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r'{"a": "\ud800"}', "half a character"),
        (r'{"\uDC00": 1}', "half a character"),
        ('{"a": NaN}', "no JSON number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 400 + "}", "400 digits"),
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_what_nobody_can_use_is_refused(text: str, words: str, as_bytes: bool) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text.encode() if as_bytes else text)


def test_half_a_character_as_bytes_is_refused() -> None:
    """Without an escape; json.loads alone lets it pass."""
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b'{"a": "\xed\xa0\x80"}')


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', '"😀"', r'"C:\\udata"', r'"ü"'])
def test_whole_characters_are_kept(text: str) -> None:
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


def test_a_model_with_half_a_character_is_told_and_nothing_stays(tmp_path: Path) -> None:
    model = write_random_model(tmp_path / "m.h5", "detector with masks")
    with h5py.File(model, "r+", locking=False) as file:
        text = json.dumps([{"epoch": 1, "note": "\ud800"}]).encode()
        del file["history"]
        file.create_dataset("history", data=np.array(text, dtype=h5py.string_dtype("utf-8", len(text))))
    with pytest.raises(ArtifactError, match="half a character"):
        export_weights.run(export_weights.Config(), model=model, out=tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


@pytest.mark.parametrize("odd", [None, 3, [], [None], {}, {"a": None}, "x"])
def test_a_record_of_another_form_is_told_as_far_as_it_can_be(odd: object) -> None:
    """What readers take as a list stays one, or is absent."""
    keys = ("argv", "config", "inputs", "external", "seconds", "device")
    tidy = tidy_record(dict.fromkeys(keys, odd) | {"stage": "split-masks"})
    assert tidy["stage"] == "split-masks"
    for key in ("argv", "inputs", "external"):
        assert isinstance(tidy.get(key, []), list)
        assert None not in tidy.get(key, [])
    assert isinstance(tidy.get("config", {}), dict)
    assert tidy.get("seconds") in (None, 3)
    record = {
        "path": "a.h5", "bytes": 1, "kind": "split", "schema_version": 1, "problems": [], "tree": [], "attributes": {},
        "notes": {}, "summary": {}, "digest": "d", "created_by": "c", "provenance": tidy,
    }  # fmt: skip
    assert description_lines(record)[0] == "a.h5: split (schema 1, 1 B)"
