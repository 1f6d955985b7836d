"""A node as a process of its own: `python -m seqres_cli STAGE …`, its words in a log file."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqres_cli.experiments.graph import Graph, Node
from seqres_cli.experiments.runner import Found, Stopper, Worker
from stages.errors import SeqresError, StaleOutputError

_TRAINING = ("train-rec", "train-res")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_INPUT_PROBLEM = 3  # exit code


def check_flags(graph: Graph) -> None:
    """UsageError for flags that a stage does not take, before hours of work lead there."""
    from seqres_cli.commands import COMMANDS

    for stage, options in dict.fromkeys((node.stage, node.options) for node in graph):
        COMMANDS[stage].build().main([*options, "--print-config"], standalone_mode=False, obj={})


@dataclass
class Processes:
    """Runs nodes of the experiment in `folder`.

    With several jobs each process keeps to one thread, as they would only get in each other's way otherwise.
    """

    folder: Path
    jobs: int
    launcher: Sequence[str] = (sys.executable, "-m", "seqres_cli")
    _running: Stopper = field(default_factory=Stopper)

    def worker(self) -> Worker:
        return Worker(self.look, self.run, self._running.stop, self.log_of)

    def log_of(self, node: Node) -> Path:
        return (self.folder / "logs" / node.out).with_suffix(".log")

    def there(self, node: Node) -> bool:
        return (self.folder / node.out).exists()

    def look(self, node: Node) -> Found:
        """A dry run inside this process: it reads heads of files only and loads no torch."""
        if not self.there(node):
            return "absent"
        from seqres_cli.commands import COMMANDS

        stage, *arguments = node.arguments(self.folder)
        command = COMMANDS[stage].build()
        try:
            answer = command.main([*arguments, "--dry-run", "--quiet"], standalone_mode=False, obj={})
        except StaleOutputError:
            return "stale"
        except SeqresError:
            return "absent"  # the run itself tells what is wrong, in its log
        return "current" if answer.payload["status"] == "up-to-date" else "absent"

    def run(self, node: Node, replace: bool) -> bool:
        """One call; a training that was interrupted goes on, unless its state belongs to other settings."""
        log, words = self.log_of(node), node.arguments(self.folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / node.out).parent.mkdir(parents=True, exist_ok=True)
        words = [*words, "--force"] if replace else words
        log.unlink(missing_ok=True)
        if node.stage in _TRAINING and self._interrupted(node):
            code = self._call([*words, "--resume"], log)
            if code != _INPUT_PROBLEM:
                return code == 0
        return self._call(words, log) == 0

    def _interrupted(self, node: Node) -> bool:
        """Trainings keep their state in hidden files beside the output: .rec.h5.resume, .rec.h5.rounds."""
        out = self.folder / node.out
        return any(out.with_name(f".{out.name}.{kind}").exists() for kind in ("resume", "rounds"))

    def _call(self, words: Sequence[str], log: Path) -> int:
        if self._running.stopped:
            return 130
        with log.open("ab") as stream:
            stream.write(f"$ seqres {shlex.join(words)}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                [*self.launcher, *words],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                process_group=0,  # Ctrl-C reaches it through us alone, once
            )
            # not SIGTERM: a stage that is interrupted removes its temporary files
            self._running.add(process.pid, lambda: process.send_signal(signal.SIGINT))
            try:
                return process.wait()
            finally:
                self._running.remove(process.pid)

    def _environment(self) -> dict[str, str]:
        """Ours, with this package on the path and one thread a process where several run."""
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
        threads = dict.fromkeys(_ONE_THREAD, "1") if self.jobs > 1 else {}
        return {**os.environ, **threads, "PYTHONPATH": path}
