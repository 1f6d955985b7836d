"""A part of a stage's work that is done by itself, perhaps on another machine (`--shard 2/4`), and how parts fit together.

Pictures are dealt out in the groups in which one process computes them, so that the joined rows are those of one run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError, UsageError, listed

Value = TypeVar("Value")
MOST = 100_000  # shards of a run
_SHOWN = 5


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    @classmethod
    def of(cls, text: str | None) -> Shard | None:
        """`2/4`; None of None. UsageError for anything else."""
        if text is None:
            return None
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
            raise UsageError(
                f"--shard must be i/n with i from 1 to n, got {text!r}",
                hint="--shard 2/4 is the second of four parts",
            )
        return cls(int(found[1]), int(found[2]))

    def share(self, items: Sequence[Value]) -> Sequence[Value]:
        """What of the items belongs to this part."""
        return items[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class Part:
    """What a file says of the shard that it holds.

    Attributes:
        whole: fingerprint of the run of which it is a part. batch: pictures in a batch.
        rows: (S,) int64, places of its rows among the `total` of that run.
    """

    path: Path
    shard: Shard
    whole: str
    batch: int
    rows: NDArray[np.int64]
    total: int


def order_of(parts: Sequence[Part], command: str) -> NDArray[np.int64]:
    """(total,) places of the run's rows among the rows of all parts, one part after the other.

    Raises:
        ArtifactError: parts of different runs, or of other batches; one that is missing or there twice; rows that do not
            fit together. `command`: what makes them, for the hint.
    """
    first = parts[0]
    for other in parts[1:]:
        _require_one_run(first, other)
    _require_each_once(parts, command)
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    if len(rows) != first.total or not np.array_equal(rows[order], np.arange(first.total)):
        raise ArtifactError(
            f"the shards hold {len(rows)} rows that are not the {first.total} of one run",
            facts=[f"{part.path}: {len(part.rows)} rows" for part in parts[:_SHOWN]],
            hint=f"make them again: {command} --shard 1/{first.shard.count} … --force",
        )
    return order


def _require_one_run(first: Part, other: Part) -> None:
    pair = (first, other)
    if other.whole != first.whole:
        raise ArtifactError(
            f"{other.path} and {first.path} are shards of different runs",
            facts=[f"{part.path}: run {part.whole[:12]}" for part in pair],
            hint="seqres inspect tells the inputs and options of a shard"
            if first.path.suffix == ".h5"
            else "make all shards from the same model, pictures and options",
        )
    for what, one, two in (
        ("number of shards", first.shard.count, other.shard.count),
        ("batch size", first.batch, other.batch),
        ("number of rows", first.total, other.total),
    ):
        if one != two:
            raise ArtifactError(
                f"{other.path} and {first.path} differ in the {what}",
                facts=[f"{first.path}: {one}", f"{other.path}: {two}"],
                hint="make all shards with the same options",
            )


def _require_each_once(parts: Sequence[Part], command: str) -> None:
    seen: dict[int, Path] = {}
    for part in parts:
        if part.shard.number in seen:
            raise ArtifactError(
                f"{part.path} and {seen[part.shard.number]} are both shard {part.shard}",
                hint="give each shard once",
            )
        seen[part.shard.number] = part.path
    count = parts[0].shard.count
    missing = [n for n in range(1, count + 1) if n not in seen]
    if missing:
        named = listed([f"{n}/{count}" for n in missing], _SHOWN)
        raise ArtifactError(
            f"{'shard' if len(missing) == 1 else 'shards'} {named} missing",
            facts=[
                f"given: {', '.join(str(part.shard) for part in parts[:_SHOWN])}{' …' if len(parts) > _SHOWN else ''}"
            ],
            hint=f"{command} --shard {missing[0]}/{count} …",
        )
