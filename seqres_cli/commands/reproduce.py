"""Run a whole experiment over several seeds, and write its tables and its curve.

NAME is refshapes (what each part of the method earns with few masks, and the curve over the share of masks), table1
(the [TASK] token, all masks) or figure1 (SeqTR, MDETR and SiRi over the share of masks). Every step is an ordinary
seqres call whose file is kept: what is there is not run again, a training that was interrupted goes on, rows share
what they have in common, and the experiments share one folder. The data are those of seed 0 for all seeds; the choice
of the visible masks and all trainings follow the seed. A failed step stops what depends on it, and nothing else.
Snakemake runs the steps: on this computer, or with --executor and --profile on Slurm, Kubernetes and others; what stands
after -- goes to it as it is.
"""

from __future__ import annotations

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

Name = Annotated[
    Literal["refshapes", "table1", "figure1"], typer.Argument(metavar="NAME", show_default=False)
]
Scale = Annotated[
    Literal["tiny", "smoke", "standard"],
    typer.Option(help="size of RefShapes and training budget: a check, minutes per training, or hours"),
]
Seeds = Annotated[str, typer.Option(metavar="0,1,2", help="seeds of splits and trainings")]
Dataset = Annotated[
    Path | None, typer.Option(metavar="FILE.h5", help="dataset artifact to use instead of RefShapes")
]
Rows = Annotated[str, typer.Option(metavar="A,B", help="Only these rows (or groups of rows); default: all.")]
Jobs = Annotated[int, typer.Option(min=0, help="Steps at once; 0 = one a core, each on one thread.")]
Executor = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Snakemake's executor plugin: slurm, kubernetes, …; default: local."),
]
Profile = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Snakemake profile: executor, resources, …")
]
More = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- ARGUMENTS]", help="Further arguments of Snakemake.", show_default=False),
]
Splits = Annotated[
    list[str], typer.Option("--split", metavar="TEXT", help="split to score [repeat for several]")
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where all files go; default: runs/reproduce/SCALE."),
]
Model = Annotated[str, typer.Option(help="preset of train-rec for the point sequence")]
MdetrModel = Annotated[str, typer.Option(help="preset of train-rec for MDETR (figure1)")]
Zoom = Annotated[int, typer.Option(min=32, help="pixels of the window of crop refinement")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps")]
RecFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="Added to train-rec; the last one counts.")]
MdetrFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="Added to train-rec of MDETR.")]
ResFlags = Annotated[str, typer.Option(metavar="'FLAGS'", help="Added to every train-res.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would run; write nothing.")]


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
    model: Model = "refshapes-small",
    mdetr_model: MdetrModel = "refshapes-small-mdetr",
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
