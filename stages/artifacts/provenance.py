"""The record inside every artifact of how it was made: a JSON dataset, because attributes end at 64 KiB.

{
  "stage", "stage_version", "seed", "argv", "device",
  "config":   {name: {"value": …, "origin": "default" | "flag" | "recipe NAME" | "file PATH" | "call", "semantic": bool}},
  "inputs":   [{"role", "path", "kind", "digest"}],
  "external": [{"role", "path", "size", "sha256"}],
  "versions": {"seqres", "python", "platform", "numpy", "h5py", …},
  "started_utc", "ended_utc", "seconds"
}
Not part of the digest: the same content made twice has the same digest and two provenances.
"""

import math
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import stages

_LIBRARIES = ("numpy", "h5py", "torch", "transformers", "cv2", "pycocotools")


def versions() -> dict[str, str]:
    """Versions of this program, Python and those libraries that are loaded; nothing is imported for it."""
    found = {
        "seqres": stages.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for name in _LIBRARIES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found


def utc_now() -> str:
    """The time as "2025-01-31T12:00:00Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def storable(text: str) -> str:
    """`text` as it stands, unless it is no UTF-8 (a name from an old disk, half a character pair): then escaped, caf\\xe9.

    What Python could not decode only because of an old locale (LC_ALL=C) is read as the UTF-8 that it is.
    """
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")


def stored_path(text: str) -> Path:
    """The path behind a `storable` text: with the bytes of its name again, where only those exist."""
    raw = text.encode("utf-8", "surrogateescape")
    path = Path(os.fsdecode(raw))
    if b"\\x" in raw and not path.exists():
        raw = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), raw)
        path = Path(os.fsdecode(raw))
    return path


def plain_json(value: Any) -> Any:
    """`value` with numpy numbers, arrays, paths and tuples as plain JSON types; NaN and infinity as None.

    Texts are `storable`.
    """
    if isinstance(value, Mapping):
        return {storable(str(k)): plain_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"cannot store {type(value).__name__} as JSON")
