"""Write docs/licences.md: the licence of every package of constraints.txt, as its own metadata states it.

    python scripts/make_licences.py

A test compares the file with constraints.txt and with what is installed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "licences.md"
HEAD = """# Licences of what seqres uses

seqres itself is under the [MIT licence](../LICENSE), and so are the weights that come with it, which were trained on
generated pictures. It contains no code of others. This page lists the packages of `constraints.txt` with the licence that
their own metadata states. Made by `scripts/make_licences.py`; do not edit.

| package | version | licence | needed |
|---|---|---|---|
"""
# Two licences by their first lines, for packages whose metadata name none
_FIRST_LINES = {"MIT License": "MIT", "The MIT License (MIT)": "MIT"}


def page() -> str:
    """The whole page."""
    use = {name: text for text, names in uses().items() for name in names}
    return HEAD + "".join(
        f"| {name} | {version} | {licence(name)} | {use[canonicalize_name(name)]} |\n"
        for name, version in pins().items()
    )


def pins() -> dict[str, str]:
    """Package -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and line[0] != "#")


def licence(name: str) -> str:
    """In words: an SPDX expression, the classifiers, the licence field, or the first line of the licence file."""
    about = metadata.metadata(name)
    classifiers = [c for c in about.get_all("Classifier", []) if c.startswith("License ::")]
    field = (about.get("License") or "").strip()
    return (
        about.get("License-Expression")
        or (field if "\n" not in field and len(field) < 60 else "")
        or ", ".join(c.split(" :: ")[-1] for c in classifiers)
        or next((_FIRST_LINES[line] for line in _licence_lines(name) if line in _FIRST_LINES), "not stated")
    )


def _licence_lines(name: str) -> Iterable[str]:
    for file in metadata.files(name) or ():
        if "dist-info" in str(file) and "LICENSE" in file.name.upper():
            yield from (line.strip() for line in file.read_text("utf-8").splitlines()[:3])


def uses() -> dict[str, set[str]]:
    """Why a package is there -> canonical names; each package once, at the first reason."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "to run": project["dependencies"],
        "extra onnx": extras["onnx"],
        "extra reproduce": extras["reproduce"],
        "to develop": extras["dev"],
    }
    found: set[str] = set()
    return {reason: _new_ones(map(Requirement, texts), found) for reason, texts in wanted.items()}


def _new_ones(requirements: Iterable[Requirement], found: set[str]) -> set[str]:
    """What these need and `found` has not, which they join."""
    new: set[str] = set()
    for needed in requirements:
        name = canonicalize_name(needed.name)
        if name in found:
            continue
        found.add(name)
        theirs = [Requirement(text) for text in metadata.requires(name) or ()]
        environments = [{"extra": extra} for extra in needed.extras or {""}]
        chosen = [r for r in theirs if r.marker is None or any(map(r.marker.evaluate, environments))]
        new |= {name} | _new_ones(chosen, found)
    return new


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
    print(PATH)
