"""A tiny stage of its own, so that the command line is tested apart from what the real stages compute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest

from seqres_cli import commands, stage_command
from seqres_cli.main import main
from seqres_cli.options import DATASET, RESUME, InputPath
from seqres_cli.stage_command import StageCommand
from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.artifacts.writer import write_artifact
from stages.config import check_ranges, option
from stages.reporter import Reporter, SilentReporter


@dataclass(frozen=True)
class Config:
    ratio: float = option(0.1, "Share of masks.", min=0, max=1, min_open=True)
    count: int | None = option(None, "Number of masks.", min=1)
    strategy: Literal["random", "list"] = option("random", "How to choose.")
    splits: tuple[str, ...] = option(("train",), "Splits.")
    by_image: bool = option(False, "Whole images.")
    comment: str = option("", "Free text.")
    seed: int = option(0, "Seed.")
    device: str = option("auto", "Device.", semantic=False, flag="on-device")

    def __post_init__(self) -> None:
        check_ranges(self)


class Calls:
    """What the stage was called with, and what it shall do."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.effect: Callable[[Reporter], None] = lambda reporter: None


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The command `toy-stage`: reads a dataset (and perhaps a split), writes a split."""
    calls = Calls()

    def run(
        config: Config,
        *,
        dataset: Path,
        out: Path,
        split: Path | None = None,
        resume: bool = False,
        reporter: Reporter = SilentReporter(),
        options: RunOptions = RunOptions(),
    ) -> StageResult:
        calls.arguments = {"config": config, "split": split, "resume": resume, "options": options}
        job = StageJob(
            stage="toy-stage",
            version=1,
            config=config,
            kind="split",
            out=out,
            inputs={"dataset": (dataset, "split")},
            options=options,
        )
        settled = job.settled()
        if settled is not None:
            return settled
        calls.effect(reporter)
        with job.writer() as writer:
            fill_split(writer)
            writer.json("summary", {"n": 3, "score": 0.5})
        return job.result({"n": 3, "score": 0.5})

    module = ModuleType("toy_stage_module")
    module.Config, module.run = Config, run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_stage_module", module)
    command = StageCommand(
        name="toy-stage",
        help="Do nothing much.\n\nMore words.",
        inputs=(DATASET, InputPath("split", "A split.", required=False)),
        extras=(RESUME,),
        examples=("seqres toy-stage --dataset data.h5 --out split.h5",),
        module="toy_stage_module",
    )
    monkeypatch.setitem(commands.COMMANDS, "toy-stage", command)
    monkeypatch.setattr(stage_command, "STAGES", (*commands.STAGES, "toy-stage"))
    return calls


def fill_split(writer: Any, n: int = 3) -> None:
    for name in ("dataset_digest", "split_name", "strategy", "seed", "unit"):
        writer.attr(name, "x")
    writer.column("visible", np.zeros(n, bool))
    writer.column("rank", np.arange(n))
    writer.column("labelled_ref_id", np.zeros(0, np.int64))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A valid input for `toy-stage`."""
    path = tmp_path / "data.h5"
    record = {
        "stage": "by hand",
        "stage_version": 1,
        "seed": 4,
        "seconds": 65.0,
        "ended_utc": "2025-01-31T12:00:00Z",
    }
    with write_artifact(path, "split", fingerprint="f", provenance=record) as writer:
        fill_split(writer)
        writer.json(
            "summary", {"splits": {"train": {"n": 3, "mIoU": 0.51234}, "val": {"n": 4, "mIoU": None}}}
        )
    return path


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def seqres(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call
