"""Named architectures (presets.toml): the small default, and the full-size models of the literature.

All have corrected semantics; `--semantics release` turns every one of the release's differences on.
"""

import dataclasses
import tomllib
from importlib import resources
from typing import Any

from stages.errors import UsageError, nearest_hint
from stages.models.config import PARTS, ModelConfig


def _read_presets() -> dict[str, ModelConfig]:
    tables = tomllib.loads(resources.files(__package__).joinpath("presets.toml").read_text("utf-8"))
    settings, made = tables.pop("settings"), dict[str, ModelConfig]()
    for name, table in tables.items():
        basis = made[table.pop("extends")] if "extends" in table else ModelConfig()
        parts = {key: _part(key, table[key], settings) for key in PARTS if key in table}
        made[name] = basis.replace(**table | parts)
    return made


def _part(name: str, values: dict[str, Any], settings: dict[str, Any]) -> Any:
    """A part of the description: lists as tuples, the name of `settings` as what it names."""
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    if "settings" in plain:
        plain["settings"] = settings[plain["settings"]]
    return PARTS[name](**plain)


PRESETS = _read_presets()


def preset(name: str) -> ModelConfig:
    """The named configuration; UsageError lists the known names."""
    if name not in PRESETS:
        raise UsageError(
            f"unknown model preset {name!r}",
            facts=[f"known presets: {', '.join(sorted(PRESETS))}"],
            hint=nearest_hint(name, PRESETS),
        )
    return PRESETS[name]


def released(config: ModelConfig) -> ModelConfig:
    """The same architecture as the public release computes it: its GRU also reads the padding, it has no auxiliary mask head."""
    text = dataclasses.replace(config.text, packed=False)
    return config.replace(semantics="release", text=text, auxiliary_mask=0)
