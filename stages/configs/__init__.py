"""The recipe book: TOML files with one table a stage, that build on each other and name only what they change.

    extends = "refshapes"            # a shipped recipe, or a file beside this one; its values come first
    [training]                       # for train-rec and train-res alike
    warmup-epochs = 0.1
    [train-res]                      # keys as the flags
    lr = 0.002
    [recipe.naive]                   # another recipe in the same file: FILE:naive
    extends = "plain"                # of this file, or of one that it extends
    train-res = { cctf = false }

`--config NAME`, `NAME:RECIPE`, `FILE.toml` and `FILE.toml:RECIPE` name one. Its layers, weakest first: the tables of
the files, from the one at the end of `extends` to FILE itself; then the same for each recipe of RECIPE's chain. In
each, a stage's own table wins over [training].
"""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from stages.errors import ArtifactError, UsageError, nearest_hint
from stages.untrusted import is_deep, plain, require_regular, shown

_HERE = Path(str(resources.files(__name__)))
_LARGEST_FILE = 4 << 20  # bytes
_LONGEST_NAME = 4096  # characters; no operating system has longer paths
_SHARED = {"training": ("train-rec", "train-res")}


@dataclass(frozen=True)
class Layer:
    """The values that one table sets. `origin` says whose: "recipe refshapes-smoke:naive", "file my.toml"."""

    origin: str
    place: str  # "[train-res] of my.toml"
    values: Mapping[str, Any]


@dataclass(frozen=True)
class _Book:
    """One TOML file; `name` is what people call it."""

    name: str
    path: Path
    content: Mapping[str, Any]

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.content.get("recipe", {})
        return found

    def layers(self, stage: str, recipe: str | None) -> list[Layer]:
        """Of the file itself, or of what it says about a recipe."""
        tables = self.recipes.get(recipe, {}) if recipe else self.content
        kind = "recipe" if self.path.parent == _HERE else "file"
        origin = f"{kind} {self.name}{f':{recipe}' if recipe else ''}"
        prefix = f"recipe.{recipe}." if recipe else ""
        names = [shared for shared, takers in _SHARED.items() if stage in takers] + [stage]
        return [Layer(origin, f"[{prefix}{n}] of {self.name}", tables[n]) for n in names if n in tables]


def recipe_names() -> list[str]:
    """Names of the shipped files and of the recipes in them or inherited by them: `a`, `a:x`, in order."""
    names = []
    for file in _shipped():
        inside = {name for book in _lineage(file, _HERE) for name in book.recipes}
        names += [file, *(f"{file}:{name}" for name in sorted(inside))]
    return names


def _shipped() -> list[str]:
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def read_layers(reference: str, stage: str, stages: Iterable[str]) -> list[Layer]:
    """What a recipe sets for a stage, weakest first.

    Raises:
        UsageError: no such file or recipe, no valid TOML, a table that names no stage, or a chain that is a circle.
    """
    return _layers(reference, None, stage, list(stages))


def _layers(reference: str, beside: Path | None, stage: str, stages: Sequence[str]) -> list[Layer]:
    lineage = _lineage(reference, beside)
    for book in lineage:
        _check_tables(book, stage, stages)
    last, recipe = lineage[-1], _split(reference, beside)[1]
    basis = last.content.get("extends")
    layers = _layers(basis, last.path.parent, stage, stages) if basis else []
    layers += last.layers(stage, None)
    for name in _recipe_chain(lineage, recipe) if recipe else ():
        layers += [layer for book in lineage for layer in book.layers(stage, name)]
    return layers


def _lineage(reference: str, beside: Path | None) -> list[_Book]:
    """The file and what it extends, that one first."""
    books: list[_Book] = []
    while True:
        path = _split(reference, beside)[0]
        book = _read(path, asked_by=books[-1] if books else None)
        books.append(book)
        if sum(other.path.samefile(book.path) for other in books) > 1:
            raise UsageError(
                f"{books[0].name} extends itself",
                facts=[" extends ".join(other.name for other in books)],
                hint=f"take one extends out, for instance that of {books[-2].name}",
            )
        reference, beside = book.content.get("extends", ""), book.path.parent
        if not isinstance(reference, str) or len(reference) > _LONGEST_NAME:
            raise UsageError(
                f"extends in {book.name} must be the name of a recipe or file, got {shown(reference)}"
            )
        if not reference:
            return books[::-1]


def _split(reference: str, beside: Path | None) -> tuple[Path, str | None]:
    """The file that is meant, and the recipe in it: "refshapes:naive" -> (…/refshapes.toml, "naive")."""

    def file_of(text: str) -> Path:
        path = (beside or Path()) / os.path.expanduser(text)
        bare = not Path(text).suffix and len(Path(text).parts) == 1 and not os.path.isfile(path)
        shipped = _HERE / f"{text}.toml"
        return shipped if bare and os.path.isfile(shipped) else path

    whole = file_of(reference)
    head, colon, recipe = reference.rpartition(":")
    return (file_of(head), recipe) if colon and not os.path.exists(whole) else (whole, None)


def _read(path: Path, asked_by: _Book | None) -> _Book:
    name = path.stem if path.parent == _HERE else str(path)
    try:
        require_regular(path, largest=_LARGEST_FILE, what="TOML file")
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        if is_deep(content):
            raise UsageError(f"{path} is nested too deeply")
        return _Book(name, path, content)
    except FileNotFoundError as error:
        whose = "given with --config" if asked_by is None else f"{asked_by.name} extends it"
        raise UsageError(
            f"no such file: {path}",
            facts=[whose, f"shipped recipes: {', '.join(_shipped())}"],
            hint=nearest_hint(path.name, recipe_names())
            or "give one of these, or a file with tables of its own",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    except ArtifactError as error:
        raise UsageError(error.message, hint=error.hint) from error
    # also a number of thousands of digits, and lists without end
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML", facts=[plain(str(error), 200)]) from error


def _recipe_chain(lineage: Sequence[_Book], recipe: str) -> list[str]:
    """The recipe and what it extends, that one first."""
    known = sorted({name for book in lineage for name in book.recipes})
    chain: list[str] = []
    last, name = lineage[-1].name, recipe
    while name:
        if name not in known:
            raise UsageError(
                f"no such recipe: {last}:{name}"
                if not chain
                else f"{last}:{plain(chain[-1])} extends {shown(name)}, which is none",
                facts=[f"recipes of {last}: {', '.join(map(plain, known)) or 'none'}"],
                hint=nearest_hint(name, known, "{}" if chain else f"{last}:{{}}"),
            )
        if name in chain:
            raise UsageError(
                f"{last}:{recipe} extends itself", facts=[" extends ".join(map(plain, [*chain, name]))]
            )
        chain.append(name)
        name = next(
            (b.recipes[name]["extends"] for b in reversed(lineage) if "extends" in b.recipes.get(name, {})),
            "",
        )
    return chain[::-1]


def _check_tables(book: _Book, stage: str, stages: Sequence[str]) -> None:
    """Everything in the file is `extends`, a stage's table, or a recipe made of them."""
    known = [*stages, *_SHARED]
    _check_group(book, book.content, "", stage, [*known, "recipe"])
    for name, content in book.content.get("recipe", {}).items():
        if not isinstance(content, dict):
            raise UsageError(f"recipe {shown(name)} in {book.name} must be a table, got {shown(content)}")
        _check_group(book, content, f"recipe.{name}.", stage, known)
        if not isinstance(content.get("extends", ""), str):
            raise UsageError(
                f"extends in [recipe.{plain(name)}] of {book.name} must be a name, got {shown(content['extends'])}"
            )


def _check_group(
    book: _Book, group: Mapping[str, Any], prefix: str, stage: str, known: Sequence[str]
) -> None:
    for name, value in group.items():
        if name == "extends":
            continue
        if name not in known:
            raise UsageError(
                f"{book.name} has a table for the unknown stage {shown(name)}"
                if isinstance(value, dict)
                else f"{book.name} has the key {shown(prefix + name)} outside of any table",
                hint=nearest_hint(name, ["extends"])
                or nearest_hint(name, known, f"[{prefix}{{}}]")
                or f"one table a stage, for instance [{prefix}{stage}]",
            )
        if not isinstance(value, dict):
            raise UsageError(
                f"{shown(name)} in {book.name} must be a table, got {shown(value)}",
                hint=f"write [{prefix}{name}]",
            )
