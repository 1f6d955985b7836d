"""Entries in a temporary file: by place and one after another, small and large, let go or not."""

from __future__ import annotations

import pytest

from stages.data.readers import entry_file
from stages.data.readers.entry_file import EntryFile


@pytest.mark.parametrize("at_once", [1, 50, 1 << 16])
def test_walking_through_gives_what_is_at_each_place(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_file, "_READ_AT_ONCE", at_once)
    added = [{"id": i, "text": "x" * (i * i % 90)} for i in range(40)]
    entries = EntryFile()
    entries.extend(None if i % 7 in (0, 1) else entry for i, entry in enumerate(added))
    entries.append("y" * 500)
    walked = list(entries)
    assert walked == [entries[i] for i in range(41)]
    assert walked[:3] == [None, None, added[2]] and walked[40] == "y" * 500
    assert list(EntryFile()) == []
