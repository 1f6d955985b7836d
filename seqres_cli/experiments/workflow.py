"""The call of Snakemake: which steps there are, which of them must run, and running them.

Snakemake knows the graph (Snakefile), the jobs and the machines; whether a file is right is decided by its content, as
everywhere in seqres, so files of an earlier run or of other tools are taken as they are.
"""

import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqres_cli.ending import ended_like_ctrl_c
from seqres_cli.experiments import step
from stages.errors import SeqresError, UsageError

Status = Literal["cached", "would run", "may run", "made", "failed", "blocked"]
LAUNCHER = (sys.executable, "-m", "seqres_cli.experiments.step")
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Step:
    """One call of `seqres`. `out` and `inputs` are names of steps: paths in the experiment's folder."""

    out: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]


def require_snakemake() -> None:
    """UsageError with the line to type where Snakemake is not installed."""
    if importlib.util.find_spec("snakemake") is None:
        raise UsageError(
            "seqres reproduce runs on snakemake, which is not installed",
            hint="pip install 'seqres[reproduce]'",
        )


def list_steps(folder: Path, config: Mapping[str, Any]) -> list[Step]:
    """All steps, each after its inputs; nothing is written to `folder`."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [*_snakemake(Path(empty), config), "--dry-run", "--printshellcmds", "--cores", "1"],
            env=_environment(),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SeqresError(
            "snakemake cannot lay out the steps",
            facts=[*done.stdout.splitlines(), *done.stderr.splitlines()][-8:],
        )
    marker = f" && {shlex.join(config['launcher'])} "
    steps: dict[str, Step] = {}
    for line in done.stdout.splitlines():
        if marker in line:
            words = shlex.split(line.split(marker, 1)[1].rsplit(") > ", 1)[0])
            names = [os.path.relpath(word, folder) for word in words]
            out = os.path.relpath(step.out_of(words), folder)
            steps[out] = Step(out, tuple(words), tuple(name for name in names if name in steps))
    return list(steps.values())


def check_flags(steps: Sequence[Step]) -> None:
    """UsageError for flags that a stage does not take, before hours of work lead there."""
    from seqres_cli.commands import COMMANDS

    # seeds and files do not matter, so most calls are like one that was looked at
    different = {
        tuple(w for w in one.words if not w.endswith(".h5") and not w.isdecimal()): one.words for one in steps
    }
    for stage, *arguments in different.values():
        COMMANDS[stage].build().main([*arguments, "--print-config"], standalone_mode=False, obj={})


def preview(steps: Sequence[Step]) -> dict[str, Status]:
    """What a run would do. "may run": its file is there, but what it reads from is made anew."""
    found: dict[str, Status] = {}
    for one in steps:
        if all(found[name] == "cached" for name in one.inputs):
            found[one.out] = "cached" if step.look(one.words) == "current" else "would run"
        else:
            found[one.out] = "may run" if step.out_of(one.words).exists() else "would run"
    return found


def execute(
    steps: Sequence[Step], folder: Path, config: Mapping[str, Any], more: Sequence[str], quiet: bool
) -> dict[str, Status]:
    """Run what is needed; what became of every step. Ctrl-C ends the running steps and is raised again.

    Args:
        more: further arguments of Snakemake: how many at once, and where.
    """
    before = preview(steps)
    needed = [name for name, status in before.items() if status != "cached"]
    files = {one.out: _file_number(one) for one in steps}
    if needed:
        command = [*_snakemake(folder, config), "--keep-going", "--rerun-incomplete", "--nolock"]
        _wait([*command, "--forcerun", *needed, "--quiet", "host", "reason", *more], quiet)
    outcomes: dict[str, Status] = {}
    for one in steps:
        if before[one.out] == "cached":
            outcomes[one.out] = "cached"
        elif any(outcomes[name] in ("failed", "blocked") for name in one.inputs):
            outcomes[one.out] = "blocked"
        elif step.look(one.words) != "current":
            outcomes[one.out] = "failed"
        else:
            outcomes[one.out] = "cached" if _file_number(one) == files[one.out] else "made"
    return outcomes


def _file_number(one: Step) -> int | None:
    """Of the file that is there: a new one takes the place of the old, so its number is another."""
    with contextlib.suppress(FileNotFoundError):
        return step.out_of(one.words).stat().st_ino
    return None


def _snakemake(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """The command up to here; its settings lie in the folder, for machines that share it."""
    settings = folder / ".snakemake" / "reproduce.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(_HERE / "Snakefile"), "--directory", str(folder),
        "--configfile", str(settings.absolute()), "--scheduler", "greedy",
        "--rerun-triggers", "software-env",  # no time stamps and no records: content decides
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """Ours, with this package on the path."""
    path = os.pathsep.join(p for p in (str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path}


def _wait(command: Sequence[str], quiet: bool) -> None:
    """Until Snakemake has ended. It and the steps are a process group: Ctrl-C reaches them through us alone, once."""
    with ended_like_ctrl_c(), _ctrl_c_counts():
        process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=2,  # our standard output is for the answer
            stderr=subprocess.DEVNULL if quiet else None,
            process_group=0,
        )
        try:
            process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise


@contextlib.contextmanager
def _ctrl_c_counts() -> Iterator[None]:
    """A shell that starts us in the background has Ctrl-C ignored, and the steps would inherit that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
