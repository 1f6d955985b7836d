"""Small valid artifacts of every kind, made from the schema itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import ArtifactWriter, write_artifact
from stages.artifacts.ragged import pack
from stages.artifacts.schema import SCHEMAS, RaggedColumn

SIZES = {
    "I": 2,
    "C": 2,
    "R": 3,
    "S": 5,
    "T": 4,
    "K": 2,
    "D": 3,
    "L": 1,
    "A": 1,
    "N": 6,
    "V": 4,
    "P": 2,
    "Z": 2,
    "H": 2,
    "M": 4,
}


def fill(writer: ArtifactWriter, kind: str, value: int = 0) -> None:
    """Every column and attribute of the schema; `value` goes into one of the columns or attributes."""
    for name in SCHEMAS[kind].attributes:
        writer.attr(name, ["train", "val"] if name == "split_names" else f"{name}-{value}")
    for group in SCHEMAS[kind].groups:
        writer.column(f"{group}/layer.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    for path, column in SCHEMAS[kind].columns.items():
        if isinstance(column, RaggedColumn):
            rows = [np.full((i % 3, *column.tail), i) for i in range(SIZES[column.rows])]
            dtype = {"uint8": np.uint8, "int": np.int32}.get(column.type, np.float32)
            writer.ragged(path, *pack(rows, dtype, column.tail))
        elif column.type == "json":
            writer.json(path, ["a.jpg"] if path == "missing_images" else {"n": 1})
        else:
            shape = [
                int(d) if d.isdigit() else SIZES[d.removesuffix("+1")] + d.endswith("+1")
                for d in column.dims.split()
            ]
            if column.type == "text":
                writer.strings(path, [f"ü {i}" for i in range(shape[0])])
            else:
                writer.column(path, _numbers(path, shape, column.type))


def _numbers(path: str, shape: list[int], kind: str) -> np.ndarray:
    special = {"referents/sentence_offsets": [0, 2, 4, 5], "sentences/referent_index": [0, 0, 1, 1, 2]}
    if path in special:
        return np.array(special[path], np.int64)
    if path.endswith("box_xyxy"):
        return np.tile(np.array([1.0, 2.0, 30.5, 40.0]), (shape[0], 1))
    if kind == "bool":
        return np.arange(shape[0]) % 2 == 0
    return np.ones(shape, np.int64 if kind == "int" else np.float32)


@pytest.fixture
def write_sample(tmp_path: Path) -> Callable[..., Path]:
    """write_sample("split", name="a.h5", value=1, fingerprint="f", provenance={}, more=callable) -> path."""

    def write(
        kind: str,
        name: str | None = None,
        value: int = 0,
        fingerprint: str = "f",
        provenance: dict[str, Any] | None = None,
        more: Callable[[ArtifactWriter], None] | None = None,
    ) -> Path:
        path = tmp_path / (name or f"{kind}.h5")
        record = provenance if provenance is not None else {"stage": "sample"}
        with write_artifact(path, kind, fingerprint=fingerprint, provenance=record) as writer:
            fill(writer, kind, value)
            if more:
                more(writer)
        return path

    return write
