"""Configuration of a stage: a frozen dataclass (`StageConfig`) whose every field is made with `option(...)`.

The field's metadata is the only place where an option is described: the command line builds its
flags from it, the TOML file is checked against it, and the fingerprint takes the semantic part.
Types: bool, int, float, str, `X | None`, `Literal[...]` and `tuple[str, ...]`.

An option that got a better name says what it was called: `option(..., formerly="outline")`. The former name is still
taken wherever the present one is, is not shown in any help, and stays the key of the fingerprint, so that files made
under it remain up to date. The same holds for the values in `former_values` (present value -> former value).
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union

from stages.errors import UsageError, nearest_hint
from stages.untrusted import plain, shown

# headings of --help, in their order; options without one are listed under "Options" or, if not semantic, "Run"
Panel = Literal[
    "Inputs and output", "Set most often", "Options", "Sequence and model", "Training data and start", "Optimisation",
    "Augmentation", "Crop refinement", "Validation", "Detectors (MDETR, SiRi)", "Generated data (RefShapes)",
    "Release compatibility", "Run",
]  # fmt: skip


@dataclass(frozen=True)
class OptionInfo:
    """What `option` records about a field.

    Attributes:
        semantic: False for what cannot change the result: device, workers, log interval.
        min, max: limits of a number; with `min_open`, `max_open` the limit itself is not allowed.
        flag: name on the command line without dashes, when it is not the field's own name.
        added: the field came after files had been made, and its default means what the stage did before: these files
            stay up to date.
        panel: heading of `--help`. formerly: its name before. former_values: present value -> former one.
    """

    help: str
    semantic: bool = True
    min: float | None = None
    max: float | None = None
    min_open: bool = False
    max_open: bool = False
    choices: tuple[Any, ...] | None = None
    flag: str | None = None
    added: bool = False
    panel: Panel | None = None
    formerly: str | None = None
    former_values: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def current(self, value: Any) -> Any:
        """A former value under its present name; any other value as it is."""
        return next((now for now, before in self.former_values.items() if before == value), value)

    def stored(self, value: Any) -> Any:
        """The value as files and fingerprints have it."""
        return self.former_values[value] if isinstance(value, str) and value in self.former_values else value


@dataclass(frozen=True)
class OptionType:
    """A field's annotation, taken apart. `base` is bool, int, float or str (a tuple's element)."""

    base: type
    optional: bool = False
    choices: tuple[Any, ...] | None = None
    is_tuple: bool = False


def option(default: Any, help: str, **info: Any) -> Any:
    """A dataclass field with its help text (state the unit) and whatever else `OptionInfo` holds.

    Values are checked by `check_ranges` (`StageConfig`).
    """
    return dataclasses.field(default=default, metadata={"option": OptionInfo(help, **info)})


def in_panel(panel: Panel) -> Callable[..., Any]:
    """`option` for fields under one heading of `--help`."""
    return functools.partial(option, panel=panel)


def option_info(field: dataclasses.Field[Any]) -> OptionInfo:
    """What `option` recorded about a dataclass field; TypeError for a field not made with `option`."""
    info = field.metadata.get("option")
    if not isinstance(info, OptionInfo):
        raise TypeError(f"field {field.name!r} was not made with stages.config.option")
    return info


def flag_name(field: dataclasses.Field[Any]) -> str:
    """The option's name without dashes: `option(flag=…)`, or the field's name in kebab-case."""
    return option_info(field).flag or field.name.replace("_", "-")


def former_flags(config_class: type) -> dict[str, str]:
    """Former name -> present name of every option that was renamed, both without dashes."""
    named = ((option_info(f).formerly, flag_name(f)) for f in dataclasses.fields(config_class))
    return {before.replace("_", "-"): now for before, now in named if before}


def fields_by_name(config_class: type) -> dict[str, str]:
    """Every name that a configuration file may use, former ones last -> the field's name."""
    fields = {flag_name(f): f.name for f in dataclasses.fields(config_class)}
    return fields | {before: fields[now] for before, now in former_flags(config_class).items()}


def option_types(config_class: type) -> dict[str, OptionType]:
    """Field name -> its type taken apart, in the order of the dataclass."""
    hints = typing.get_type_hints(config_class)
    return {f.name: _take_apart(f.name, hints[f.name]) for f in dataclasses.fields(config_class)}


def _take_apart(name: str, annotation: Any) -> OptionType:
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        if len(members) == 1:
            return dataclasses.replace(_take_apart(name, members[0]), optional=True)
    elif origin is Literal:
        choices = typing.get_args(annotation)
        return OptionType(type(choices[0]), choices=choices)
    elif origin is tuple:
        arguments = typing.get_args(annotation)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return dataclasses.replace(_take_apart(name, arguments[0]), is_tuple=True)
    elif annotation in (bool, int, float, str):
        return OptionType(annotation)
    raise TypeError(f"option {name!r} has the unsupported type {annotation!r}")


def coerce(name: str, value: Any, kind: OptionType) -> Any:
    """`value` (from TOML or from a caller) as the field's type; UsageError naming the value otherwise.

    An int is taken for a float and a list for a tuple; nothing else is converted, so that a quoted
    number or `true` for a count is reported instead of guessed at.
    """
    if value is None and kind.optional:
        return None
    if kind.is_tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{name} must be a list, got {shown(value)}")
        element = dataclasses.replace(kind, is_tuple=False, optional=False)
        return tuple(coerce(name, v, element) for v in value)
    if kind.base is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise UsageError(f"{name} must be a number, got {shown(value)}") from None
    if not isinstance(value, kind.base) or (isinstance(value, bool) and kind.base is not bool):
        raise UsageError(f"{name} must be {_TYPE_WORDS[kind.base]}, got {shown(value)}")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise UsageError(f"{name} must be a whole number of at most {_MOST_BITS} bits, got {shown(value)}")
    return value


_MOST_BITS = 64  # of whole numbers, as everything that is told one has room for no more
_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_ranges(config: Any) -> None:
    """Check the type, limits and choices of every field.

    Raises:
        UsageError: the first field whose value is not allowed, e.g. "ratio must be in (0, 1], got 1.5".
    """
    kinds = option_types(type(config))
    for field in dataclasses.fields(config):
        info, kind = option_info(field), kinds[field.name]
        name = flag_name(field)
        value = info.current(coerce(name, getattr(config, field.name), kind))
        object.__setattr__(config, field.name, value)
        if value is None:
            continue
        for item in value if kind.is_tuple else (value,):
            _check_one(name, item, info, kind)


@dataclass(frozen=True)
class StageConfig:
    """The base of every stage's `Config`: its fields are checked when it is made."""

    def __post_init__(self) -> None:
        check_ranges(self)


def _check_one(name: str, value: Any, info: OptionInfo, kind: OptionType) -> None:
    choices = info.choices or kind.choices
    if choices and value not in choices:
        raise UsageError(
            f"{name} must be one of {', '.join(map(str, choices))}, got {shown(value)}",
            hint=nearest_hint(plain(value), [str(c) for c in choices]),
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, got {value}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    below = info.min is not None and (value < info.min or (info.min_open and value == info.min))
    above = info.max is not None and (value > info.max or (info.max_open and value == info.max))
    if below or above:
        raise UsageError(f"{name} must be {range_words(info)}, got {shown(value)}")


def range_words(info: OptionInfo) -> str:
    """The limits in words: "in (0, 1]", "at least 1", "above 0", "at most 9"; "" without limits."""
    if info.min is not None and info.max is not None:
        left, right = "(" if info.min_open else "[", ")" if info.max_open else "]"
        return f"in {left}{info.min:g}, {info.max:g}{right}"
    if info.min is not None:
        return f"{'above' if info.min_open else 'at least'} {info.min:g}"
    if info.max is not None:
        return f"{'below' if info.max_open else 'at most'} {info.max:g}"
    return ""


def config_dict(config: Any) -> dict[str, Any]:
    """Every field as JSON-ready values (tuples become lists)."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def semantic_dict(config: Any) -> dict[str, Any]:
    """The fields that may change the result, under the names and values that the fingerprint has always seen."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        info, value = option_info(field), getattr(config, field.name)
        if info.semantic and not (info.added and value == field.default):
            found[info.formerly or field.name] = _plain(info.stored(value))
    return found


def stored_value(config: Any, name: str) -> Any:
    """The value of one field as files have it."""
    field = next(f for f in dataclasses.fields(config) if f.name == name)
    return _plain(option_info(field).stored(getattr(config, name)))


def in_current_words(config_class: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a file or a fingerprint has them, under their present names and values."""
    infos = {f.name: option_info(f) for f in dataclasses.fields(config_class)}
    names = {info.formerly: name for name, info in infos.items() if info.formerly}
    renamed = {names.get(name, name): value for name, value in stored.items()}
    return {name: infos[name].current(value) if name in infos else value for name, value in renamed.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
