"""Complete recipes that come with the package: `--config seqtr-darknet53-rec` reads one by its name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_HERE = resources.files(__name__)


def recipe_names() -> list[str]:
    """Names of the shipped recipes, in alphabetical order."""
    return sorted(Path(p.name).stem for p in _HERE.iterdir() if p.name.endswith(".toml"))


def recipe_path(name: str) -> Path | None:
    """The file of a shipped recipe; None when there is none of that name."""
    return Path(str(_HERE.joinpath(f"{name}.toml"))) if name in recipe_names() else None
