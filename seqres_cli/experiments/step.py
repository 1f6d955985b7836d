"""One step of an experiment, as Snakemake starts it: `python -m seqres_cli.experiments.step STAGE … --out FILE`.

A file that is right stays as it is, another is replaced, and a training that was interrupted goes on.
"""

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stages.errors import SeqresError, StaleOutputError

Found = Literal["absent", "current", "stale"]  # stale: the file is there, but was made from something else
_INPUT_PROBLEM = 3  # exit code
_GO_ON_WHEN_ASKED = ("train-rec", "train-res")  # others that were interrupted go on by themselves


def out_of(words: Sequence[str]) -> Path:
    """The file that a call writes."""
    return Path(words[words.index("--out") + 1])


def look(words: Sequence[str]) -> Found:
    """A dry run inside this process: it reads heads of files only and loads no torch."""
    if not out_of(words).exists():
        return "absent"
    from seqres_cli.commands import COMMANDS

    stage, *arguments = words
    command = COMMANDS[stage].build()
    try:
        answer = command.main([*arguments, "--dry-run", "--quiet"], standalone_mode=False, obj={})
    except StaleOutputError:
        return "stale"
    except SeqresError:
        return "absent"  # the run itself tells what is wrong, in its log
    return "current" if answer.payload["status"] == "up-to-date" else "absent"


def run(words: Sequence[str]) -> int:
    """The exit code of the stage."""
    from seqres_cli.main import main

    print("$ seqres", shlex.join(words), flush=True)
    replace = ["--force"] if look(words) != "current" and out_of(words).exists() else []
    out = out_of(words)  # beside it, trainings keep their state: .rec.h5.resume, .rec.h5.rounds
    if words[0] in _GO_ON_WHEN_ASKED and any(
        out.with_name(f".{out.name}.{kind}").exists() for kind in ("resume", "rounds")
    ):
        code = main([*words, *replace, "--resume"])
        if code != _INPUT_PROBLEM:  # the state belongs to other settings
            return code
    return main([*words, *replace])


if __name__ == "__main__":
    # A shell that starts things in the background has Ctrl-C ignored; a stage that it ends removes its temporary files.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))
