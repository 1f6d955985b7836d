"""`--config FILE.toml` or a recipe's name (stages/configs): one table a stage, keys as the flags.

Flag > recipe > what the recipe extends > default.

[split-masks]
ratio = 0.05
[train-res]
epochs = 20
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.config import OptionType, coerce, config_dict, fields_by_name, flag_name, option_types
from stages.configs import Layer, read_layers
from stages.errors import UsageError, nearest_hint
from stages.untrusted import plain, shown


def resolve(
    config_class: type, stage: str, flags: Mapping[str, Any], recipe: Path | str | None, stages: Iterable[str]
) -> tuple[Any, dict[str, str]]:
    """The stage's Config and the origin of every field: "flag", "recipe NAME", "file PATH" or "default".

    Args:
        flags: field name -> value, only what was given on the command line.
        recipe: what `--config` names.

    Raises:
        UsageError: an unknown recipe or key (with the nearest known one), a wrong type, or a value out of range.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys((f.name for f in dataclasses.fields(config_class)), "default")
    places: dict[str, str] = {}
    for layer in read_layers(str(recipe), stage, stages) if recipe else ():
        found = _read_layer(config_class, stage, layer)
        values |= found
        origins |= dict.fromkeys(found, layer.origin)
        places |= dict.fromkeys(found, layer.place)
    for name, value in flags.items():
        values[name], origins[name] = value, "flag"
    try:
        return config_class(**values), origins
    except UsageError as error:
        guilty = fields_by_name(config_class).get(error.message.split(" ", 1)[0], "")
        if guilty not in places or guilty in flags:
            raise
        fact = f"set in {places[guilty]}"
        raise UsageError(error.message, facts=[*error.facts, fact], hint=error.hint) from error


def _read_layer(config_class: type, stage: str, layer: Layer) -> dict[str, Any]:
    """Field name -> value of what one table sets."""
    by_flag = fields_by_name(config_class)
    kinds = option_types(config_class)
    found: dict[str, Any] = {}
    for key, value in layer.values.items():
        name = by_flag.get(key.replace("_", "-"))
        if name is None:
            flags = map(flag_name, dataclasses.fields(config_class))
            raise UsageError(
                f"unknown key {shown(key)} in {layer.place}",
                hint=nearest_hint(key, flags) or f"seqres {stage} --print-config lists all keys",
            )
        if name in found:
            raise UsageError(f"{shown(key)} is set twice in {layer.place}")
        if isinstance(value, dict):
            raise UsageError(f"{plain(key)} in {layer.place} must be a value, got a table")
        found[name] = _from_file(key, value, kinds[name], layer.place)
    return found


def _from_file(key: str, value: Any, kind: OptionType, place: str) -> Any:
    """The value; "none" unsets a number that an extended recipe sets, as TOML has no word for it."""
    if value == "none" and kind.optional and kind.base is not str:
        return None
    try:
        return coerce(key, value, kind)
    except UsageError as error:
        raise UsageError(error.message, facts=[f"set in {place}"]) from error


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
