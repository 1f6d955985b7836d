"""`python -m tests.fuzz [READER …] [--cases N] [--seed S] [--from I] [--only I] [--jobs J]`: see CONTRIBUTING.md."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.fuzz.runner import Result, run_target
from tests.fuzz.targets import TARGETS

KINDS = ("fine", "told", "traceback", "hang", "memory", "crash")
_PIECE = 1000  # cases that one process runs before the next piece is handed out
_SHOWN = 40  # findings listed, one of each place


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--cases", type=int, default=10_000, help="cases a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="this case alone")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    unknown = [name for name in given.readers if name not in TARGETS]
    if unknown:
        parser.error(f"unknown reader {unknown[0]}")
    last = given.first + given.cases if given.only is None else given.only + 1
    first = given.first if given.only is None else given.only
    pieces = [
        (name, range(start, min(start + _PIECE, last)), given.seed)
        for name in given.readers or TARGETS
        for start in range(first, last, _PIECE)
    ]
    results: dict[str, Result] = {}
    seen: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        for result in pool.map(_piece, *zip(*pieces, strict=True)):
            whole = results.setdefault(result.target, Result(result.target))
            whole.counts += result.counts
            whole.findings += result.findings
            whole.seconds += result.seconds
            for finding in result.findings:
                place = (
                    whole.target,
                    finding.kind + finding.detail.partition(":")[0] + finding.detail.partition(" <")[0],
                )
                seen[place] += 1
                if seen[place] == 1 and len(seen) <= _SHOWN:
                    print(
                        f"{whole.target} --only {finding.case}: {finding.kind}: {finding.detail}", flush=True
                    )
            if whole.cases == last - first:
                print(_line(whole), flush=True)
    total = sum(r.cases for r in results.values())
    print(f"{total} cases, {seen.total()} findings in {len(seen)} places")
    return 1 if seen else 0


def _piece(name: str, cases: range, seed: int) -> Result:
    return run_target(TARGETS[name], cases, seed)


def _line(result: Result) -> str:
    counted = "  ".join(f"{kind} {result.counts[kind]}" for kind in KINDS)
    return f"{result.target.ljust(20)} {result.cases} cases  {counted}  {result.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
