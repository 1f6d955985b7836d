"""Cells of tables: what means nothing, and numbers that a spreadsheet or pandas wrote as text or with a point."""

import re
from typing import Any

from stages.data.readers.records import clean_text

# As pandas, R, JSON, SQL and spreadsheets write a missing value; in quotes or not.
_NOTHING = frozenset({"", "nan", "none", "null", "<na>", "n/a", "#n/a", "nat", "<null>", "nil", "undefined"})
_WHOLE = re.compile(r"(-?\d+)\.0*")


def is_nothing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, blanks, or a word that programs write for these."""
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING or value.strip() == "NA"
    return value is None or (isinstance(value, float) and value != value)


def text_of(value: Any) -> str:
    """Text that can be stored, "" where there is none; numbers are no text."""
    return "" if is_nothing(value) else clean_text(value)


def label_of(value: Any) -> str:
    """A name that may be a number: 3, 3.0 and "3.0" are "3"; "" where there is none."""
    if is_nothing(value) or isinstance(value, list | dict):
        return ""
    label = clean_text(str(value))
    whole = _WHOLE.fullmatch(label)
    return whole[1] if whole else label
