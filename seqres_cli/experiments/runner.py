"""Run the nodes of a graph side by side: those that the most work waits for first.

What a node writes is also what says that it is done, so an interrupted experiment goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqres_cli.experiments.graph import Graph, Node
from seqres_cli.output import seconds_text

Found = Literal["absent", "current", "stale"]  # stale: the file is there, but was made from something else
Status = Literal["cached", "made", "failed", "blocked", "would run", "may run"]


@dataclass(frozen=True)
class Outcome:
    """What became of a node. "blocked": something it stands on failed."""

    status: Status
    seconds: float = 0.0
    log: Path | None = None


@dataclass(frozen=True)
class Worker:
    """How nodes are looked at and run; replaced by tests.

    Attributes:
        look: is the node's file there and right? Called from one thread, when its inputs are there.
        run: run the node, with `replace` over a stale file; True when it worked. Called from several threads.
        stop: end what is running.
    """

    look: Callable[[Node], Found]
    run: Callable[[Node, bool], bool]
    stop: Callable[[], None]
    log_of: Callable[[Node], Path]


def preview(graph: Graph, look: Callable[[Node], Found], there: Callable[[Node], bool]) -> dict[str, Outcome]:
    """What a run would do, without doing it. "may run": its file is there, but what it reads from is made anew."""
    outcomes: dict[str, Outcome] = {}
    for node in graph:
        if all(outcomes[name].status == "cached" for name in graph.before(node.out)):
            current = look(node) == "current"
            outcomes[node.out] = Outcome("cached" if current else "would run")
        else:
            outcomes[node.out] = Outcome("may run" if there(node) else "would run")
    return outcomes


def execute(graph: Graph, worker: Worker, *, jobs: int, tell: Callable[[str], None]) -> dict[str, Outcome]:
    """Run what is needed; the outcome of every node.

    A node that fails stops what depends on it and nothing else. Ctrl-C ends the running nodes and is raised again.
    """
    state = _State(graph, tell, jobs)
    running: dict[Future[tuple[bool, float]], Node] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            while state.open():
                while len(running) < jobs and (node := state.next()) is not None:
                    found = worker.look(node)
                    if found == "current":
                        state.settle(node, Outcome("cached"))
                    else:
                        state.start(node, found)
                        running[pool.submit(_timed, worker, node, found == "stale")] = node
                if not running:
                    continue
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    node = running.pop(future)
                    worked, seconds = future.result()
                    outcome = Outcome("made" if worked else "failed", seconds, worker.log_of(node))
                    state.settle(node, outcome)
        except BaseException:
            worker.stop()
            raise
    return state.outcomes


def _timed(worker: Worker, node: Node, replace: bool) -> tuple[bool, float]:
    started = time.monotonic()
    return worker.run(node, replace), time.monotonic() - started


class _State:
    """Which nodes are waiting, ready, running and done; what is told about them."""

    def __init__(self, graph: Graph, tell: Callable[[str], None], jobs: int) -> None:
        self.graph, self.tell, self.jobs = graph, tell, jobs
        self.outcomes: dict[str, Outcome] = {}
        self._readers, self._ways = graph.after(), graph.longest_ways()
        self._missing = {name: set(graph.before(name)) for name in graph.nodes}
        self._ready = [name for name, missing in self._missing.items() if not missing]
        self._running: set[str] = set()
        self._expected, self._taken, self._cached = 0.0, 0.0, 0

    def open(self) -> bool:
        return len(self.outcomes) < len(self.graph)

    def next(self) -> Node | None:
        """The ready node that the longest way hangs on, or None; it is no longer ready then."""
        if not self._ready:
            return None
        name = max(self._ready, key=lambda ready: self._ways[ready])
        self._ready.remove(name)
        return self.graph.nodes[name]

    def start(self, node: Node, found: Found) -> None:
        self._running.add(node.out)
        why = ", replaces a file that was made from something else" if found == "stale" else ""
        self.tell(f"start {node.out} ({node.stage}{why})")

    def settle(self, node: Node, outcome: Outcome) -> None:
        self.outcomes[node.out] = outcome
        self._running.discard(node.out)
        if outcome.status == "failed":
            self._block(node.out)
        else:
            for reader in self._readers[node.out]:
                self._missing[reader].discard(node.out)
                if not self._missing[reader] and reader not in self.outcomes:
                    self._ready.append(reader)
        if outcome.status == "made":
            self._expected += node.seconds
            self._taken += outcome.seconds
        if outcome.status == "cached":
            self._cached += 1
        else:
            self._tell_settled(node, outcome)

    def _block(self, name: str) -> None:
        for reader in self._readers[name]:
            if reader not in self.outcomes:
                self.outcomes[reader] = Outcome("blocked")
                self._block(reader)

    def _tell_settled(self, node: Node, outcome: Outcome) -> None:
        count = f"[{len(self.outcomes)}/{len(self.graph)}]"
        if outcome.status == "failed":
            self.tell(f"{count} failed {node.out}, see {outcome.log}")
            return
        left = f", eta {seconds_text(self.seconds_left())}" if self.open() else ""
        self.tell(f"{count} made {node.out} in {seconds_text(outcome.seconds)}{left}")

    def seconds_left(self) -> float:
        """Guesses of what is left, corrected by how long things took so far; never less than the longest way."""
        left = [name for name in self.graph.nodes if name not in self.outcomes]
        total = sum(self.graph.nodes[name].seconds for name in left) / self.jobs
        longest = max((self._ways[name] for name in left), default=0.0)
        pace = self._taken / self._expected if self._expected else 1.0
        return pace * max(total, longest)


def counts_of(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """Status -> number of nodes."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    return counts


class Stopper:
    """Remembers the running processes, so that Ctrl-C can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, Callable[[], None]] = {}
        self.stopped = False

    def add(self, key: int, end: Callable[[], None]) -> None:
        with self._lock:
            self._ends[key] = end
            if self.stopped:
                end()

    def remove(self, key: int) -> None:
        with self._lock:
            self._ends.pop(key, None)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            for end in self._ends.values():
                end()
