"""`seqres`: the list of commands, and the one place where errors become messages and exit codes.

Exit codes: 0 done or up to date, 1 failed while running, 2 usage, 3 a problem with an artifact or input
data, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
"""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

import stages
from seqres_cli.commands import COMMANDS
from seqres_cli.ending import Ended, ended_like_ctrl_c
from seqres_cli.help_page import write_rows
from seqres_cli.output import Answer, print_answer, print_error
from seqres_cli.processes import world_of_environment
from seqres_cli.streams import patient_streams
from stages.errors import ArtifactError, SeqresError, UsageError, nearest_hint
from stages.world import ALONE


class _LazyGroup(TyperGroup):
    """Commands are listed from their help texts alone and built when one of them is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        short = command.help.strip().splitlines()[0]
        return TyperCommand(cmd_name, help=short, short_help=short, rich_markup_mode=None)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in COMMANDS.items():
            panels.setdefault(command.panel, []).append((name, command.help.strip().splitlines()[0]))
        for panel, rows in panels.items():
            with formatter.section(panel):
                write_rows(formatter, rows, max(map(len, COMMANDS)))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name = args[0]
        if name not in COMMANDS:
            raise UsageError(
                f"no such command: {name}",
                hint=nearest_hint(name, COMMANDS, "seqres {}") or "seqres --help lists the commands",
            )
        return name, COMMANDS[name].build(), args[1:]


app = typer.Typer(
    cls=_LazyGroup,
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Every command has --help with examples. A first look at everything: make demo",
)


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="with --version: one JSON object, library versions included")
    ] = False,
) -> Answer | None:
    """Segment what an expression refers to, learned from boxes and a few masks.

    Each stage reads HDF5 artifacts and writes one. A model file and your photographs are all that predict needs.
    """
    if version:
        from stages.doctor import library_versions

        payload = {"version": stages.__version__, "libraries": library_versions()}
        return Answer(payload, [f"seqres {stages.__version__}"])
    if ctx.invoked_subcommand is None:
        return Answer({"help": ctx.get_help()}, [ctx.get_help()])
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but a debugging traceback escapes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with patient_streams() as (stdout, stderr), ended_like_ctrl_c() as ended:
        code, kept = _run(arguments, ended)
        stdout.flush()
        stderr.flush()
        if stdout.error is None:
            return code
        if isinstance(stdout.error, BrokenPipeError):  # head and less leave when they have what they want
            return code
        reason = (stdout.error.strerror or str(stdout.error)).lower()
        print(f"warning: the result could not be printed: {reason}", file=sys.stderr, flush=True)
        return code if kept else code or 1


def _run(arguments: list[str], ended: Ended) -> tuple[int, bool]:
    """Exit code, and whether the result is kept in a file."""
    as_json = "--json" in arguments
    command_line = ["seqres", *arguments]
    world = ALONE
    try:
        world = world_of_environment(arguments)
        told = {"argv": command_line, "world": world}
        cli = typer.main.get_command(app)
        answer: Any = cli.main(arguments, prog_name="seqres", standalone_mode=False, obj=told)
        if answer == 130:  # typer turns Ctrl-C into this exit code
            raise KeyboardInterrupt
        world.leave()
        if isinstance(answer, Answer):
            if world.first:
                print_answer(answer, as_json)
            return answer.exit_code, answer.kept
        return answer if isinstance(answer, int) else 0, False
    except SystemExit:
        raise
    except BaseException as error:
        ended.told = True
        if os.environ.get("SEQRES_DEBUG") == "1":
            traceback.print_exc()
        problem = as_seqres_error(error, command_line)
        if isinstance(problem, _Interrupted) and world.size > 1:
            problem.facts += ("one of several processes: if nobody ended them all, another has ended before",)
        if problem.exit_code == _Interrupted.exit_code and ended.signal:
            problem.exit_code = 128 + ended.signal
        if world.speaks():
            print_error(problem, as_json)
        return problem.exit_code, False


class _Interrupted(SeqresError):
    exit_code = 130


def as_seqres_error(error: BaseException, command_line: Sequence[str]) -> SeqresError:
    """Any exception in the form that people are shown."""
    if isinstance(error, SeqresError):
        if isinstance(error, UsageError | ArtifactError):
            error.hint = error.hint or f"{_command_of(command_line)} --help"
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _Interrupted("interrupted", facts=["no artifact was written; one that existed is unchanged"])
    if isinstance(error, TyperException):
        return _usage_error(error, command_line)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return SeqresError(
            "out of memory", facts=_first_line(error), hint="try a smaller --batch-size or image size"
        )
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        hint = "free some space, or choose another --out" if error.errno in (28, 122) else None
        return SeqresError(f"{where}{error.strerror.lower()}", hint=hint)
    return SeqresError(
        f"unexpected {type(error).__name__}",
        facts=[*_first_line(error), f"command: {shlex.join(command_line)}"],
        hint="this is a bug: run it again with SEQRES_DEBUG=1, and report the command and what it prints",
    )


def _command_of(command_line: Sequence[str]) -> str:
    """ "seqres train-rec" out of a whole command line; typer does not always tell the command."""
    return " ".join(["seqres", *(word for word in command_line[1:2] if word in COMMANDS)])


def _first_line(error: BaseException) -> list[str]:
    lines = str(error).strip().splitlines()
    return lines[:1]


def _usage_error(error: TyperException, command_line: Sequence[str]) -> UsageError:
    """typer's "No such option: --ratoi (Possible options: --ratio)" in our form."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _command_of(command_line)
    option = getattr(error, "option_name", None)
    message = error.format_message().split(" (Possible options")[0].replace("(s)", "").rstrip(".")
    hint = f"{path} --help"
    if option and message.startswith("No such option"):
        known = (
            [name for p in context.command.params for name in (*p.opts, *p.secondary_opts)] if context else []
        )
        hint = nearest_hint(option, known) or hint
    return UsageError(message[:1].lower() + message[1:], hint=hint)
