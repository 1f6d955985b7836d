"""What an experiment's report is made of: rows, each with the files of its runs. Plain data, standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunFiles:
    """What one seed left for a row; files that do not exist are as good as None."""

    seed: int
    evaluation: Path
    # (column, evaluation of the same model whose mIoU stands there)
    beside: tuple[tuple[str, Path], ...] = ()
    model: Path | None = None
    trainings: tuple[Path, ...] = ()  # models of all trainings on masks, the last one is `model`
    attention: Path | None = None  # what was measured of the model's cross-attention
    labels: tuple[tuple[Path, Path], ...] = ()  # (pseudo_points, resampled_points) of each round


@dataclass(frozen=True)
class Row:
    """A line of the table: several runs of one method."""

    name: str
    label: str
    ratio: float  # share of the masks, in [0, 1]; 0 = boxes only
    runs: tuple[RunFiles, ...]
    basis: str | None = None  # the row that this one adds one thing to
    reference: str | None = None  # the row that is 100 %
    printed: Mapping[str, float] = field(default_factory=dict)  # the paper's numbers, in the unit interval


@dataclass(frozen=True)
class Curve:
    """A line of the picture: rows by their share of the masks. `level`: their last value as a dashed line."""

    label: str
    rows: tuple[str, ...]
    level: bool = False


@dataclass(frozen=True)
class Table:
    """Which rows stand together under one heading, with which columns."""

    heading: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Experiment:
    """Everything that the page tells."""

    name: str
    title: str
    intro: str
    rows: tuple[Row, ...]
    tables: tuple[Table, ...]
    curves: tuple[Curve, ...] = ()
    curve_title: str = "mIoU against the share of masks"
    learning: tuple[str, ...] = ()  # rows whose score during training is shown
    facts: Mapping[str, Any] = field(default_factory=dict)  # settings, stored with the numbers
