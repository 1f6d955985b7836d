"""One run of `seqres reproduce`: its folder, its steps, its report."""

import fcntl
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seqres_cli.experiments import workflow
from seqres_cli.experiments.settings import Plan, Settings
from seqres_cli.experiments.workflow import Status, Step
from seqres_cli.output import Answer, RichReporter, table_lines
from stages.artifacts.provenance import plain_json, storable
from stages.artifacts.target import require_folder_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.errors import SeqresError, UsageError
from stages.world import usable_cores

_SETTINGS = "settings.json"


class Interrupted(SeqresError):
    """Ctrl-C, or a request to end."""

    exit_code = 130


@dataclass(frozen=True)
class Machines:
    """Where the steps run. `jobs`: steps at once, 0 = one a core; `more`: further arguments of Snakemake."""

    jobs: int = 0
    executor: str | None = None
    profile: str | None = None
    more: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        here = self.executor in (None, "local")
        jobs = self.jobs or usable_cores()
        given = ["--cores", str(jobs * self.threads())] if here else ["--jobs", str(self.jobs or 100)]
        given += ["--executor", self.executor] if self.executor else []
        # a profile may name the executor: then this computer's cores are no limit
        given += ["--profile", self.profile, "--jobs", str(jobs)] if self.profile else []
        return [*given, *self.more]

    def threads(self) -> int:
        """Of a step. Several at once keep to one thread each, as they would only get in each other's way otherwise;
        one at a time takes all cores, or as many as OMP_NUM_THREADS allows."""
        if self.jobs != 1 or self.executor not in (None, "local") or self.profile:
            return 1
        allowed = os.environ.get("OMP_NUM_THREADS", "")
        return min(usable_cores(), int(allowed)) if allowed.isdecimal() and int(allowed) else usable_cores()


def default_folder(settings: Settings) -> Path:
    """One folder for all experiments on the same data at the same scale, as they share files."""
    data = f"{settings.dataset.stem}-" if settings.dataset else ""
    return Path("runs") / "reproduce" / f"{data}{settings.scale}"


def steps_of(
    plan: Plan, settings: Settings, folder: Path, machines: Machines
) -> tuple[list[Step], dict[str, Any]]:
    """The steps, checked, and what the Snakefile is told.

    Raises:
        ArtifactError: the dataset cannot be used.
        UsageError: Snakemake is missing, the folder belongs to other data, or a stage does not take its flags.
    """
    workflow.require_snakemake()
    check_settings(settings, folder)
    config = {
        **{key: str(v) if isinstance(v, Path) else v for key, v in asdict(settings).items()},
        **{name: shlex.join(shlex.split(getattr(settings, name))) for name in ("rec_flags", "mdetr_flags", "res_flags")},
        "dataset": str(settings.dataset.absolute()) if settings.dataset else None,
        "targets": plan.targets,
        "cwd": os.getcwd(),
        "out": str(folder),
        "threads": machines.threads(),
        "launcher": workflow.LAUNCHER,
    }  # fmt: skip
    steps = workflow.list_steps(folder, config)
    workflow.check_flags(steps)
    return steps, config


def list_work(plan: Plan, settings: Settings, folder: Path) -> Answer:
    """What would run, with its command lines; nothing is written."""
    steps, _ = steps_of(plan, settings, folder, Machines())
    found = workflow.preview(steps)
    counts = dict(Counter[str](found.values()))
    nodes = [{"out": one.out, "status": found[one.out], "command": ["seqres", *one.words]} for one in steps]
    lines = [f"{node['status']:9}  {shlex.join(node['command'])}" for node in nodes]
    lines.append(f"{len(nodes)} steps: {_counts_text(counts)}")
    payload = {"experiment": plan.report.name, "out": str(folder), "counts": counts, "steps": nodes}
    return Answer(payload, lines)


def run_and_report(
    plan: Plan, settings: Settings, folder: Path, machines: Machines, reporter: RichReporter
) -> Answer:
    """Run the steps, then tell what is there; exit code 1 when a step failed."""
    steps, config = steps_of(plan, settings, folder, machines)
    with _alone(folder):
        write_whole(folder / _SETTINGS, (json.dumps(_identity(settings), indent=1) + "\n").encode("ascii"))
        try:
            outcomes = workflow.execute(steps, folder, config, machines.arguments(), reporter.quiet)
            numbers = write_reports(plan, settings, folder, reporter)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted", facts=["what was finished is kept"], hint="the same command goes on from here"
            ) from None
    return _answer(plan, folder, outcomes, numbers, reporter)


def write_reports(plan: Plan, settings: Settings, folder: Path, reporter: RichReporter) -> dict[str, Any]:
    """The report of the first split in FOLDER/NAME, of further ones in FOLDER/NAME-SPLIT; numbers of the first."""
    from dataclasses import replace

    from stages.experiment_report import write_report

    dataset = settings.dataset or folder / "dataset.h5"
    facts = plain_json(asdict(settings))
    experiment = replace(plan.report, facts=facts)
    first: dict[str, Any] = {}
    for split in settings.splits:
        name = experiment.name if not first else f"{experiment.name}-{split}"
        numbers = write_report(
            experiment, dataset=dataset, split=split, folder=folder / name, audits=folder / "audits",
            reporter=reporter,
        )  # fmt: skip
        first = first or numbers
    return first


def check_settings(settings: Settings, folder: Path) -> None:
    """ArtifactError for a dataset that cannot be used, UsageError when the folder belongs to other data or lengths."""
    if settings.dataset is not None:
        from stages.artifacts import open_artifact

        open_artifact(settings.dataset, "dataset").close()
    require_folder_target(folder, "--out")
    require_writable(folder / _SETTINGS)
    kept = folder / _SETTINGS
    if not kept.exists():
        _refuse_others(folder)
        return
    before, now = _read_settings(kept), _identity(settings)
    changed = [f"{key}: {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]
    if changed:
        raise UsageError(f"{folder} holds another experiment", facts=changed, hint="choose another --out")


def _refuse_others(folder: Path) -> None:
    """Files of the experiment are made anew when something changes, so the folder may hold none of somebody else."""
    others = sorted(p.name for p in folder.iterdir() if p.name != ".lock") if folder.is_dir() else []
    if others:
        raise UsageError(
            f"{folder} holds files and no experiment",
            facts=[f"for instance {others[0]}"],
            hint="choose another --out, a new folder",
        )


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not {"scale", "dataset"} <= found.keys():
        raise UsageError(f"{path} is not from seqres reproduce", hint="choose another --out, a new folder")
    return found


def _identity(settings: Settings) -> dict[str, Any]:
    """What makes files of a folder worthless when it changes; other settings make single files anew."""
    data = settings.dataset
    return {"scale": settings.scale, "dataset": None if data is None else storable(str(data.resolve()))}


def _answer(
    plan: Plan,
    folder: Path,
    outcomes: Mapping[str, Status],
    numbers: Mapping[str, Any],
    reporter: RichReporter,
) -> Answer:
    counts = dict(Counter[str](outcomes.values()))
    logs = {name: (folder / "logs" / name).with_suffix(".log") for name in outcomes}
    failed = [{"step": n, "log": str(logs[n])} for n, status in outcomes.items() if status == "failed"]
    page = folder / plan.report.name / "index.html"
    for one in failed:
        reporter.warn(f"{one['step']} failed, see {one['log']}")
    payload = {
        "experiment": plan.report.name, "out": str(folder), "counts": counts, "failed": failed,
        "report": str(page), **{key: numbers[key] for key in ("split", "rows")},
    }  # fmt: skip
    lines = [f"{len(outcomes)} steps: {_counts_text(counts)}", ""]
    lines += [*table_lines(_short_table(numbers["rows"])), "", f"report: {page}"]
    return Answer(payload, lines, 1 if failed else 0, kept=True)


def _short_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The few numbers that are looked at first."""
    table = []
    for row in rows:
        spreads = row["spread"]

        def text(key: str, digits: int, spreads: Mapping[str, Any] = spreads) -> str | None:
            if key not in spreads:
                return None
            deviation = spreads[key]["deviation"]
            mean = f"{spreads[key]['mean']:.{digits}f}"
            return mean if deviation is None else f"{mean} ± {deviation:.{digits}f}"

        table.append(
            {
                "": row["label"],
                "masks %": f"{100 * row['ratio']:g}",
                "seeds": len(row["seeds"]),
                "mIoU": text("miou", 3),
                "above trivial": text("above_trivial", 3),
                "% of full": text("percent_of_full", 1),
                "Acc@0.5": text("acc@0.5", 3),
            }
        )
    return table


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs in one folder would write each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another seqres reproduce is at work in {folder}",
                hint="wait for it, or choose another --out",
            ) from None
        yield
