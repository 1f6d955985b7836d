"""The files of a run as a graph: a column of boxes a step, lines from what was read to what was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.artifacts import Artifact

_WIDE, _HIGH, _GAP_X, _GAP_Y = 190, 56, 60, 16  # pixels of a box and between boxes


@dataclass(frozen=True)
class Node:
    """A box at (x, y), its top-left corner."""

    name: str
    kind: str
    digest: str
    seconds: float | None
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """What templates/report.html draws; `edges` are SVG paths."""

    nodes: Sequence[Node]
    edges: Sequence[str]
    width: int
    height: int
    box: tuple[int, int] = (_WIDE, _HIGH)


def run_graph(artifacts: Sequence[Artifact], names: Mapping[str, str]) -> Graph:
    """A file stands one column right of the last of its inputs that are among `artifacts`."""
    read_by = {a.digest: {i["digest"] for i in a.provenance.get("inputs", [])} for a in artifacts}
    sources = {digest: read & names.keys() - {digest} for digest, read in read_by.items()}
    depth: dict[str, int] = {}

    def depth_of(digest: str, above: frozenset[str] = frozenset()) -> int:
        if digest not in depth:  # a record is not trusted: it may name its own product as an input
            deeper = [depth_of(s, above | {digest}) for s in sources[digest] if s not in above]
            depth[digest] = 1 + max(deeper, default=-1)
        return depth[digest]

    filled: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for a in artifacts:
        column = depth_of(a.digest)
        place[a.digest] = (column, filled.get(column, 0))
        filled[column] = filled.get(column, 0) + 1
    corner = {d: (x * (_WIDE + _GAP_X) + 4, y * (_HIGH + _GAP_Y) + 4) for d, (x, y) in place.items()}
    nodes = [Node(names[a.digest], a.kind, a.digest[:12], _seconds(a), *corner[a.digest]) for a in artifacts]
    edges = []
    for digest, read in sources.items():
        x2, y2 = corner[digest][0], corner[digest][1] + _HIGH // 2
        for source in sorted(read):
            x1, y1 = corner[source][0] + _WIDE, corner[source][1] + _HIGH // 2
            edges.append(f"M{x1} {y1}C{x1 + _GAP_X} {y1} {x2 - _GAP_X} {y2} {x2} {y2}")
    width = max(filled, default=0) * (_WIDE + _GAP_X) + _WIDE + 8
    return Graph(nodes, edges, width, max(filled.values(), default=0) * (_HIGH + _GAP_Y) + 8)


def _seconds(artifact: Artifact) -> float | None:
    value = artifact.provenance.get("seconds")
    return float(value) if isinstance(value, int | float) else None
