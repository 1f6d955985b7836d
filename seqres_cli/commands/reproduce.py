"""Run a whole experiment over several seeds, and write its tables and its curve.

NAME is refshapes (what each part of the method contributes with few masks, and the curve over the share of masks),
table1 (the [TASK] token, all masks) or figure1 (SeqTR, MDETR and SiRi over the share of masks). Every step is an ordinary
seqres call whose file is kept. Existing files are not made again, and interrupted trainings continue. Rows share what
they have in common, and the experiments share one folder. All seeds use the same data; the visible masks and the
trainings differ. A failed step stops only what depends on it. Snakemake runs the steps on this computer, or on Slurm,
Kubernetes and others with --executor and --profile. Arguments after -- are passed on to it.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqres_cli.options import Json, Quiet
from seqres_cli.output import Answer, RichReporter
from seqres_cli.stage_command import PlainCommand
from stages.errors import UsageError

if TYPE_CHECKING:
    from seqres_cli.experiments.settings import Plan, Settings

_inputs = functools.partial(typer.Option, rich_help_panel="Inputs and output")
_often = functools.partial(typer.Option, rich_help_panel="Set most often")
_running = functools.partial(typer.Option, rich_help_panel="Run")

Name = Annotated[
    Literal["refshapes", "table1", "figure1"],
    typer.Argument(
        metavar="NAME", show_default=False, help="the experiment", rich_help_panel="Inputs and output"
    ),
]
Scale = Annotated[
    Literal["tiny", "smoke", "standard", "objects-tiny", "objects-smoke", "objects"],
    _often(
        metavar="[tiny|smoke|standard|objects-tiny|objects-smoke|objects]",
        help="size of RefShapes and training budget: a check, minutes per training, or hours; of shapes or objects",
    ),
]
Seeds = Annotated[str, _often(metavar="0,1,2", help="seeds of splits and trainings")]
Dataset = Annotated[
    Path | None, _inputs(metavar="FILE.h5", help="dataset artifact to use instead of RefShapes")
]
Rows = Annotated[str, _often(metavar="A,B", help="only these rows, or groups of rows; default: all")]
Jobs = Annotated[
    int,
    _often(
        min=0,
        metavar="INT",
        help="steps at once, each on one thread; 0 = one a core; 1: all cores, or OMP_NUM_THREADS, for it",
    ),
]
Executor = Annotated[
    str | None,
    _running(metavar="NAME", help="executor plugin of Snakemake: slurm, kubernetes, …; default: local"),
]
Profile = Annotated[str | None, _running(metavar="FOLDER", help="Snakemake profile: executor, resources, …")]
More = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- ARGUMENTS]",
        help="further arguments of Snakemake",
        show_default=False,
        rich_help_panel="Run",
    ),
]
Splits = Annotated[
    list[str], typer.Option("--split", metavar="TEXT", help="split to score [repeat for several]")
]
Folder = Annotated[
    Path | None,
    _inputs("--out", "-o", metavar="FOLDER", help="folder for all files; default: runs/reproduce/SCALE"),
]
Model = Annotated[
    str, typer.Option(metavar="NAME", help="preset of train-rec for the point sequence; default: the scale's")
]
MdetrModel = Annotated[
    str, typer.Option(metavar="NAME", help="preset of train-rec for MDETR (figure1); default: the scale's")
]
Zoom = Annotated[int, typer.Option(min=32, metavar="INT", help="pixels of the window of crop refinement")]
Device = Annotated[str, _running(metavar="TEXT", help="auto, cpu, cuda, cuda:1 or mps")]
RecFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="added to train-rec; the last one counts")]
MdetrFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="added to train-rec of MDETR")]
ResFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="added to every train-res")]
DryRun = Annotated[bool, _running("--dry-run", help="list what would run; write nothing")]


def reproduce(
    name: Name,
    more: More = None,
    out: Folder = None,
    scale: Scale = "smoke",
    seeds: Seeds = "0,1,2",
    dataset: Dataset = None,
    rows: Rows = "",
    jobs: Jobs = 0,
    executor: Executor = None,
    profile: Profile = None,
    split: Splits = ["val"],  # noqa: B006  typer copies it
    model: Model = "",
    mdetr_model: MdetrModel = "",
    zoom: Zoom = 112,
    device: Device = "auto",
    rec_flags: RecFlags = "",
    mdetr_flags: MdetrFlags = "",
    res_flags: ResFlags = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Answer:
    from seqres_cli.experiments.session import Machines, default_folder, list_work, run_and_report
    from seqres_cli.experiments.settings import Settings

    settings = Settings(
        scale, read_seeds(seeds), dataset, tuple(split), model, mdetr_model, zoom, device, rec_flags, mdetr_flags,
        res_flags,
    )  # fmt: skip
    folder = out or default_folder(settings)
    plan = make_plan(name, settings, folder, [row.strip() for row in rows.split(",") if row.strip()])
    if more and not more[0].startswith("-"):
        raise UsageError(
            f"one experiment at a time, got also {more[0]!r}", hint="arguments of Snakemake follow --"
        )
    if dry_run:
        return list_work(plan, settings, folder)
    machines = Machines(jobs, executor, profile, tuple(more or ()))
    return run_and_report(plan, settings, folder, machines, RichReporter(quiet=quiet))


def make_plan(name: str, settings: Settings, folder: Path, rows: list[str]) -> Plan:
    """The files and the report of an experiment."""
    module: Any = importlib.import_module(f"seqres_cli.experiments.{name}")
    plan: Plan = module.plan(settings, folder, rows)
    return plan


def read_seeds(text: str) -> tuple[int, ...]:
    """ "0,1,2" -> (0, 1, 2); UsageError unless they are different whole numbers of at least 0."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len({int(word) for word in words}) != len(words):
        raise UsageError(f"--seeds must be different whole numbers, got {text!r}", hint="--seeds 0,1,2")
    return tuple(int(word) for word in words)


COMMAND = PlainCommand(
    name="reproduce",
    help=__doc__,
    function=reproduce,
    panel="Experiments",
    examples=(
        "seqres reproduce refshapes --scale standard --seeds 0,1,2 --jobs 2",
        "seqres reproduce refshapes --scale standard --rows naive,full,full-all --dry-run",
        "seqres reproduce figure1 --dataset refcoco.h5 --split testA --scale standard --out runs/refcoco",
        "seqres reproduce refshapes --scale standard --executor slurm --jobs 20 --profile my-cluster",
    ),
)
