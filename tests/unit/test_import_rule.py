"""seqres_cli -> stages.<stage> -> rooms (training, inference, weights, ...) -> {artifacts, geometry, …}."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

BASE = {
    "artifacts",
    "geometry",
    "errors",
    "nearest",
    "file_kinds",
    "hub",
    "config",
    "reporter",
    "shards",
    "configs",
    "world",
    "untrusted",
}
# What each room may import of the other rooms: an order, so that no two import each other.
ROOMS: dict[str, set[str]] = {
    "data": set(),
    "models": set(),
    "metrics": set(),
    "refinement": {"data", "metrics"},
    "weights": {"data", "models"},
    "inference": {"data", "models", "metrics", "weights", "refinement"},
    "training": {"data", "models", "metrics", "weights", "inference"},
    "figures": {"data", "metrics", "inference"},
}
MIDDLE = set(ROOMS)
HEAVY = {
    "torch",
    "transformers",
    "onnxruntime",
    "cv2",
    "h5py",
    "pycocotools",
    "safetensors",
    "matplotlib",
    "jinja2",
}
ROOT = Path(__file__).resolve().parents[2]


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(node: ast.AST, at_import_time: bool) -> Iterator[str]:
    """Dotted names of everything imported; with `at_import_time`, not inside functions or TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative import"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif at_import_time and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif at_import_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (name for part in child.orelse for name in imports(part, at_import_time))
        else:
            yield from imports(child, at_import_time)


def imported(path: Path, at_import_time: bool = False) -> set[str]:
    return set(imports(ast.parse(path.read_text("utf-8")), at_import_time))


def layer_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "stages").with_suffix("").parts
    return parts[0]


def stage_parts(names: set[str]) -> set[str]:
    """The first part below `stages` of every import from it: {"artifacts", "errors"}."""
    return {name.split(".")[1] for name in names if name.startswith("stages.")} - {"__version__"}


def is_stage(path: Path) -> bool:
    return path.parent == ROOT / "stages" and path.stem not in BASE and path.stem != "__init__"


@pytest.mark.parametrize("path", sources("stages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_each_layer_imports_only_what_is_below(path: Path) -> None:
    names = imported(path)
    assert not any(name.split(".")[0] in {"seqres_cli", "typer", "rich", "click"} for name in names)
    layer, used = layer_of(path), stage_parts(names)
    if layer in BASE or layer == "__init__":
        assert used <= BASE
    elif layer in ROOMS:
        assert used <= BASE | ROOMS[layer] | {layer}
    else:  # a stage: never another stage
        assert is_stage(path)
        assert used <= BASE | MIDDLE


@pytest.mark.parametrize("layer", ["artifacts", "geometry"])
def test_artifacts_and_geometry_never_import_torch(layer: str) -> None:
    for path in sources(f"stages/{layer}"):
        assert not any(name.split(".")[0] in {"torch", "transformers"} for name in imported(path)), path


@pytest.mark.parametrize("folder", ["stages", "seqres_cli"])
def test_what_help_reads_imports_nothing_heavy(folder: str) -> None:
    for path in sources(folder):
        if folder == "stages" and not is_stage(path):
            continue
        heavy = {name.split(".")[0] for name in imported(path, at_import_time=True)} & HEAVY
        assert not heavy, f"{path} imports {heavy} at module level"


def test_charts_and_pages_load_their_libraries_only_to_draw() -> None:
    for path in [*sources("stages"), *sources("seqres_cli")]:
        libraries = {name.split(".")[0] for name in imported(path, at_import_time=True)}
        assert not libraries & {"matplotlib", "jinja2"}, path
        assert not any(name.startswith("matplotlib.pyplot") for name in imported(path)), path


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("folder", ["stages", "seqres_cli"])
def test_no_import_circles(folder: str) -> None:
    """Not even with imports inside functions: a circle of modules is one module in several files."""
    modules = {module_name(path): path for path in sources(folder)}
    edges = {}
    for name, path in modules.items():
        wanted = imported(path)
        edges[name] = {m for w in wanted for m in (w, w.rpartition(".")[0]) if m in modules} - {name}
        parent = name.rpartition(".")[0]
        edges[name] -= {parent}  # a package's own __init__ is imported with every module of it
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for following in sorted(edges[name]):
                walk(following, (*way, name))
            done.add(name)

    for name in modules:
        walk(name, ())


def test_the_command_line_reaches_stages_only_through_their_front() -> None:
    for path in sources("seqres_cli"):
        assert not stage_parts(imported(path)) & MIDDLE, path


def test_no_layer_of_the_library_prints_or_exits() -> None:
    for path in sources("stages"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"print", "sys.exit", "exit", "os.getenv"}, path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ"), path
