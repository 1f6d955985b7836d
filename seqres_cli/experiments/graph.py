"""An experiment is a graph of `seqres` calls. A node is named by the file it writes, and stored once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One call of `seqres`.

    Attributes:
        out: the file it writes, relative to the experiment's folder; its name everywhere.
        stage: the command, "train-res".
        options: its flags, as they stand on the command line.
        inputs: (flag without dashes, file): a node's `out`, or the absolute path of a file that is given.
        seconds: a guess of its running time, for the order and the first estimate of the time left.
    """

    out: str
    stage: str
    options: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    seconds: float = 1.0

    def arguments(self, folder: Path) -> list[str]:
        """What follows `seqres` on the command line. An absolute input stays what it is."""
        given = [word for flag, file in self.inputs for word in (f"--{flag}", str(folder / file))]
        return [self.stage, *given, *self.options, "--out", str(folder / self.out)]


class Graph:
    """Nodes by name, each after its inputs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(self, node: Node) -> str:
        """The node's name; adding the same node again changes nothing.

        Raises:
            ValueError: another node writes the same file, or an input is neither absolute nor made before.
        """
        known = self.nodes.setdefault(node.out, node)
        if known != node:
            raise ValueError(f"two different calls write {node.out}: {known} and {node}")
        for _, file in node.inputs:
            if file not in self.nodes and not Path(file).is_absolute():
                raise ValueError(f"{node.out} needs {file}, which nothing makes")
        return node.out

    def before(self, name: str) -> list[str]:
        """The nodes that the node reads from."""
        return [file for _, file in self.nodes[name].inputs if file in self.nodes]

    def after(self) -> dict[str, list[str]]:
        """Name -> the nodes that read from it."""
        readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name in self.nodes:
            for source in self.before(name):
                readers[source].append(name)
        return readers

    def longest_ways(self) -> dict[str, float]:
        """Name -> seconds from the start of the node to the end of the last thing that waits for it."""
        readers = self.after()
        ways: dict[str, float] = {}
        for name in reversed(self.nodes):  # inputs come first, so readers have theirs by now
            ways[name] = self.nodes[name].seconds + max((ways[r] for r in readers[name]), default=0.0)
        return ways

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)
