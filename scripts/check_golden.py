"""Run the project against reference numbers measured on the public SeqTR and Partial-RES code.

    python scripts/check_golden.py DIR

DIR holds models/*.json + *.npz, weights/*.json and geometry/*. Prints one row a quantity and exits 1 on any miss.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", help="run only cases whose name contains this text")
    parser.add_argument("--misses", action="store_true", help="print only the rows that do not agree")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's default")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"no such folder: {arguments.folder}")
    from golden_checks.run import check_folder
    from golden_checks.table import lines

    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    rows, notes = check_folder(arguments.folder, only=arguments.only)
    print("\n".join(lines(rows, every=not arguments.misses)))
    misses = [r for r in rows if not r.ok]
    for note in notes:
        print(f"note: {note}")
    seconds = time.perf_counter() - started
    cases = len({r.case for r in rows})
    print(f"{len(rows) - len(misses)} of {len(rows)} quantities agree, {cases} cases, {seconds:.1f} s")
    return 1 if misses or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
