"""`--config FILE.toml`: one table for each stage, keys as the flags. Flag > file > default.

A bare name that is no file is a recipe that comes with the package: `--config partial-res-darknet53`.

[split-masks]
ratio = 0.05
[train-res]
epochs = 20
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.config import OptionType, coerce, config_dict, option_info, option_types
from stages.configs import recipe_names, recipe_path
from stages.errors import UsageError, did_you_mean


def flag_name(field: dataclasses.Field[Any]) -> str:
    """The option's name without dashes: `option(flag=…)`, or the field's name in kebab-case."""
    return option_info(field).flag or field.name.replace("_", "-")


def load_table(path: Path, stage: str, stages: Iterable[str]) -> dict[str, Any]:
    """The table `[stage]` of a TOML file; {} when the file has none.

    Raises:
        UsageError: no such file, no valid TOML, or a table that names no stage.
    """
    path = _recipe(path) or path
    try:
        with open(path, "rb") as stream:
            content = tomllib.loads(stream.read().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise UsageError(
            f"no such file: {path}",
            facts=["given with --config", f"shipped recipes: {', '.join(recipe_names())}"],
            hint=_nearest(did_you_mean(str(path), recipe_names())),
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML", facts=[str(error)]) from error
    known = list(stages)
    for name, value in content.items():
        if name not in known:
            raise UsageError(
                f"{path} has a table for the unknown stage {name!r}"
                if isinstance(value, dict)
                else f"{path} has the key {name!r} outside of any table",
                hint=_nearest(f"[{did_you_mean(name, known)}]" if did_you_mean(name, known) else None)
                or f"one table a stage, for instance [{stage}]",
            )
        if not isinstance(value, dict):
            raise UsageError(f"{name!r} in {path} must be a table, got {value!r}", hint=f"write [{name}]")
    return dict(content.get(stage, {}))


def _recipe(path: Path) -> Path | None:
    """The shipped recipe when a bare name is given that is no file here."""
    return None if path.exists() or path.suffix or len(path.parts) != 1 else recipe_path(path.name)


def resolve(
    config_class: type, stage: str, flags: Mapping[str, Any], path: Path | None, stages: Iterable[str]
) -> tuple[Any, dict[str, str]]:
    """The stage's Config and the origin ("flag", "file" or "default") of every field.

    Args:
        flags: field name -> value, only what was given on the command line.

    Raises:
        UsageError: an unknown key (with the nearest known one), a wrong type, or a value out of range.
    """
    by_flag = {flag_name(f): f.name for f in dataclasses.fields(config_class)}
    kinds = option_types(config_class)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(by_flag.values(), "default")
    for key, value in (load_table(path, stage, stages) if path else {}).items():
        name = by_flag.get(key.replace("_", "-"))
        if name is None:
            near = did_you_mean(key.replace("_", "-"), by_flag)
            raise UsageError(
                f"unknown key {key!r} in [{stage}] of {path}",
                hint=_nearest(near) or f"seqres {stage} --print-config lists all keys",
            )
        if name in values:
            raise UsageError(f"{key!r} is set twice in [{stage}] of {path}")
        if isinstance(value, dict):
            raise UsageError(f"{key} in [{stage}] of {path} must be a value, got a table")
        values[name] = _from_file(key, value, kinds[name], stage, path)
        origins[name] = "file"
    for name, value in flags.items():
        values[name] = value
        origins[name] = "flag"
    try:
        return config_class(**values), origins
    except UsageError as error:
        guilty = error.message.split(" ", 1)[0].replace("-", "_")
        if origins.get(guilty) != "file":
            raise
        fact = f"set in [{stage}] of {path}"
        raise UsageError(error.message, facts=[*error.facts, fact], hint=error.hint) from error


def _from_file(key: str, value: Any, kind: OptionType, stage: str, path: Path | None) -> Any:
    try:
        return coerce(key, value, kind)
    except UsageError as error:
        raise UsageError(error.message, facts=[f"set in [{stage}] of {path}"]) from error


def _nearest(name: str | None) -> str | None:
    return f"did you mean {name}?" if name else None


def toml_lines(config: Any, stage: str, origins: Mapping[str, str]) -> list[str]:
    """The resolved table as TOML that `--config` reads back, each line with the value's origin."""
    rows = []
    for field in dataclasses.fields(config):
        value = config_dict(config)[field.name]
        key = flag_name(field)
        text = f"{key} = {_toml_value(value)}" if value is not None else f"# {key} is not set"
        rows.append((text, origins.get(field.name, "default")))
    width = min(48, max((len(text) for text, _ in rows), default=0))
    return [f"[{stage}]", *(f"{text.ljust(width)}  # {origin}" for text, origin in rows)]


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return repr(value)
