"""Make a typer command out of a stage's Config dataclass, so that no option is declared twice."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqres_cli import options as shared
from seqres_cli.command_names import STAGES
from seqres_cli.config_file import resolve, toml_lines
from seqres_cli.help_page import HelpPage
from seqres_cli.options import ExtraOption, InputPath
from seqres_cli.output import Answer, RichReporter, number_text, seconds_text, summary_lines
from stages.config import (
    OptionInfo,
    OptionType,
    config_dict,
    flag_name,
    former_flags,
    option_info,
    option_types,
    range_words,
)
from stages.errors import UsageError, nearest_hint
from stages.reporter import SilentReporter
from stages.world import ALONE

if TYPE_CHECKING:
    from stages.artifacts.job import StageResult

# beside --out
_COMMON: dict[str, tuple[Any, Any]] = {
    "force": (shared.Force, False),
    "dry_run": (shared.DryRun, False),
    "config": (shared.ConfigFile, None),
    "print_config": (shared.PrintConfig, False),
    "json": (shared.Json, False),
    "quiet": (shared.Quiet, False),
}
_CONFIG_PREFIX = "config_"  # keeps a field's parameter apart from an input's of the same name
_LONGEST_METAVAR = 60  # letters; more choices are listed in the text
_METAVARS = {int: "INT", float: "NUMBER", str: "TEXT", bool: ""}


@dataclass(frozen=True)
class PlainCommand:
    """A command that is an ordinary typer function which returns an `Answer`."""

    name: str
    help: str
    function: Callable[..., Answer]
    examples: Sequence[str] = ()
    panel: str = "Files and models"

    def build(self) -> Any:
        return _typer_command(self, self.function, {})


@dataclass(frozen=True)
class StageCommand:
    """How a stage appears on the command line.

    Attributes:
        help: first line = one sentence for the list of commands; the rest is shown by `--help`.
        render: result -> further lines for people, after "wrote out.h5".
        instead: called with the extra options before anything else; an Answer ends the command
            (`evaluate --compare`), None goes on with the stage.
        streams: (paths, whether --json was given) -> further keywords of `run` for a path that is "-". What is written to
            standard output then is the answer.
        out: the annotation of --out, where that is no HDF5 artifact.
        module: where `Config` and `run` are; `stages.<name_with_underscores>` unless given.
    """

    name: str
    help: str
    inputs: Sequence[InputPath] = ()
    extras: Sequence[ExtraOption] = ()
    examples: Sequence[str] = ()
    render: Callable[[StageResult], list[str]] | None = None
    instead: Callable[[Mapping[str, Any]], Answer | None] | None = None
    streams: Callable[[Mapping[str, Path], bool], dict[str, Any]] | None = None
    module: str | None = None
    panel: str = "Stages of the method"
    out: Any = shared.Out

    def load(self) -> ModuleType:
        return importlib.import_module(self.module or f"stages.{self.name.replace('-', '_')}")

    def build(self) -> Any:
        stage = self.load()
        function = _stage_function(self, stage)
        common = {"out": (self.out, None), **_COMMON}
        own = [*_extra_parameters(self), *_config_parameters(stage.Config)]
        parameters = [*_input_parameters(self), *own, *(_parameter(n, *how) for n, how in common.items())]
        _require_distinct_flags(self, stage.Config)
        signature = [inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context), *parameters]
        function.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in signature}
        former = {old: new for extra in self.extras for old, new in extra.former_flags().items()}
        return _typer_command(self, function, former | former_flags(stage.Config))


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _typer_command(
    command: PlainCommand | StageCommand, function: Callable[..., Answer], former: Mapping[str, str]
) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    text = inspect.cleandoc(command.help)
    epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in command.examples)])
    app.command(
        command.name,
        cls=HelpPage,
        help=text,
        short_help=text.splitlines()[0],
        epilog=epilog if command.examples else None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )(function)
    built = typer.main.get_command(app)
    built.former_flags = {f"--{old}": f"--{new}" for old, new in former.items()}  # type: ignore[attr-defined]
    return built


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, _KEYWORD, default=default, annotation=annotation)


def _input_parameters(command: StageCommand) -> list[inspect.Parameter]:
    made = []
    for item in command.inputs:
        text = f"{item.help} [required]" if item.required else item.help
        flag, panel = f"--{item.name.replace('_', '-')}", "Inputs and output"
        info = typer.Option(flag, metavar=item.metavar, help=text, rich_help_panel=panel)
        made.append(_parameter(item.name, Annotated[Path | None, info], None))
    return made


def _extra_parameters(command: StageCommand) -> list[inspect.Parameter]:
    made = []
    for extra in command.extras:
        flag = f"--{extra.flag or extra.name.replace('_', '-')}"
        how: Any = (
            typer.Argument(metavar="FILE...", help=extra.help, rich_help_panel=extra.panel)
            if extra.positional
            else typer.Option(flag, metavar=extra.metavar, help=extra.help, rich_help_panel=extra.panel)
        )
        wanted: Any = extra.type | None
        made.append(_parameter(extra.name, Annotated[wanted, how], None))
    return made


def _config_parameters(config_class: type) -> list[inspect.Parameter]:
    """One option a field. All but switches are taken as text, so that `_read_flag` words the errors."""
    kinds = option_types(config_class)
    made = []
    for field in dataclasses.fields(config_class):
        info, kind, flag = option_info(field), kinds[field.name], flag_name(field)
        choices = info.choices or kind.choices
        text = _help_text(info, kind, field.default)
        panel = info.panel or ("Options" if info.semantic else "Run")
        if kind.base is bool and not kind.is_tuple:
            switch = typer.Option(f"--{flag}/--no-{flag}", help=text, rich_help_panel=panel)
            annotation: Any = Annotated[bool | None, switch]
        else:
            metavar = f"[{'|'.join(map(str, choices))}]" if choices else _METAVARS[kind.base]
            if len(metavar) > _LONGEST_METAVAR:
                metavar, text = "NAME", f"{text}: {', '.join(map(str, choices or ()))}"
            option = typer.Option(
                f"--{flag}",
                metavar=metavar,
                help=text,
                rich_help_panel=panel,
                autocompletion=_completion(choices) if choices else None,
            )
            annotation = Annotated[(list[str] if kind.is_tuple else str) | None, option]
        made.append(_parameter(_CONFIG_PREFIX + field.name, annotation, None))
    return made


def _require_distinct_flags(command: StageCommand, config_class: type) -> None:
    """An input `--points FILE` and a field `points` cannot both be `--points`: give one `option(flag=…)`."""
    names = [item.name for item in command.inputs] + [extra.name for extra in command.extras]
    flags = [name.replace("_", "-") for name in names]
    flags += [flag_name(field) for field in dataclasses.fields(config_class)]
    flags += [name.replace("_", "-") for name in ("out", *_COMMON)]
    twice = sorted({flag for flag in flags if flags.count(flag) > 1})
    if twice:
        raise TypeError(f"{command.name}: two options are called --{', --'.join(twice)}")


def _completion(choices: Sequence[Any]) -> Callable[[str], list[str]]:
    return lambda incomplete: [str(c) for c in choices if str(c).startswith(incomplete)]


def _help_text(info: OptionInfo, kind: OptionType, default: Any) -> str:
    """The text, with limits where both are given (others go without saying) and the default, if it is a value."""
    notes = [range_words(info)] if info.min is not None and info.max is not None else []
    notes += ["repeat for several"] if kind.is_tuple else []
    if default is not False and default not in (None, (), ""):
        notes.append(f"default: {'on' if default is True else number_text(default)}")
    return f"{info.help} [{'; '.join(notes)}]" if notes else info.help


def _read_flag(flag: str, text: str, kind: OptionType, info: OptionInfo) -> Any:
    """A flag's text as the field's type; "none" unsets an optional number."""
    text = info.current(text)
    choices = {str(c): c for c in kind.choices or ()}
    if choices:
        if text not in choices:
            raise UsageError(
                f"--{flag} must be one of {', '.join(choices)}, got {text!r}",
                hint=nearest_hint(text, choices, f"--{flag} {{}}"),
            )
        return choices[text]
    if kind.base is str:
        return text
    if kind.optional and text.lower() == "none":
        return None
    try:
        return kind.base(text)
    except ValueError as error:
        what = "a whole number" if kind.base is int else "a number"
        raise UsageError(f"--{flag} must be {what}, got {text!r}") from error


def _given_flags(config_class: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Field name -> value for those fields that were given on the command line."""
    kinds = option_types(config_class)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        value, kind, flag = arguments[_CONFIG_PREFIX + field.name], kinds[field.name], flag_name(field)
        info = option_info(field)
        if value is None or (kind.is_tuple and not value):
            continue
        if kind.is_tuple:
            value = tuple(_read_flag(flag, text, kind, info) for text in value)
        elif isinstance(value, str):
            value = _read_flag(flag, value, kind, info)
        given[field.name] = value
    return given


def _stage_function(command: StageCommand, stage: ModuleType) -> Callable[..., Answer]:
    def run_stage(ctx: typer.Context, **arguments: Any) -> Answer:
        from stages.artifacts.job import RunOptions

        extras = {
            e.name: arguments[e.name] for e in command.extras if arguments[e.name] not in (None, [], ())
        }
        if command.instead is not None and (answer := command.instead(extras)) is not None:
            return answer
        flags = _given_flags(stage.Config, arguments)
        config, origins = resolve(stage.Config, command.name, flags, arguments["config"], STAGES)
        if arguments["print_config"]:
            payload = {"config": {command.name: config_dict(config)}, "origins": origins}
            return Answer(payload, toml_lines(config, command.name, origins))
        paths = _given_paths(command, arguments)
        if command.streams is not None:
            extras |= command.streams({**paths, "out": arguments["out"]}, arguments["json"])
        told = ctx.obj or {}
        world, argv = told.get("world", ALONE), tuple(told.get("argv", ()))
        options = RunOptions(arguments["force"], arguments["dry_run"], argv, world, origins)
        reporter = RichReporter(quiet=arguments["quiet"]) if world.first else SilentReporter()
        result = stage.run(
            config, **paths, **extras, out=arguments["out"], reporter=reporter, options=options
        )
        if str(result.path) == "-" and result.status == "written":
            return Answer({}, [])
        return _stage_answer(command, result)

    return run_stage


def _given_paths(command: StageCommand, arguments: Mapping[str, Any]) -> dict[str, Path]:
    missing = [i.name for i in command.inputs if i.required and arguments[i.name] is None]
    missing += ["out"] if arguments["out"] is None else []
    if missing:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise UsageError(f"{command.name} needs {flags}", hint=f"seqres {command.name} --help")
    return {i.name: arguments[i.name] for i in command.inputs if arguments[i.name] is not None}


def _stage_answer(command: StageCommand, result: StageResult) -> Answer:
    payload = {
        "stage": result.stage,
        "status": result.status,
        "path": str(result.path),
        "digest": result.digest,
        "seconds": round(result.seconds, 3),
        "reasons": list(result.reasons),
        "summary": result.summary,
    }
    head = {
        "written": f"wrote {result.path} in {seconds_text(result.seconds)}",
        "up-to-date": f"up to date: {result.path}",
        "would-run": f"would run {result.stage}: {'; '.join(result.reasons)}",
    }[result.status]
    body: list[str] = []
    if result.status != "would-run":
        body = command.render(result) if command.render else summary_lines(result.summary)
    return Answer(payload, [head, *body], kept=result.status != "would-run")
