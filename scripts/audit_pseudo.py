#!/usr/bin/env python
"""Pseudo labels against masks that the method never saw.

    python scripts/audit_pseudo.py DATASET PSEUDO POINTS [DATASET PSEUDO POINTS ...]

For each triple: mean IoU of what the model drew and of the resampled outlines with the true masks, beside the ellipse in
the true box and the box filled. The last line is the mean over all referents. A measurement for experiments: it reads the
masks that the split hides, so nothing of it may flow back into a training.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from stages.metrics.hidden_truth import audit_pseudo_labels

COLUMNS = (
    "referents",
    "kept",
    "all",
    "kept_outlines",
    "kept_ellipse",
    "kept_filled_box",
    "ellipse",
    "filled_box",
)
COUNTED = {name: "kept" if name.startswith("kept_") else "referents" for name in COLUMNS[2:]}


def main(arguments: list[str]) -> int:
    if not arguments or len(arguments) % 3:
        print(__doc__, file=sys.stderr)
        return 2
    rows = []
    for k in range(0, len(arguments), 3):
        dataset, pseudo, points = map(Path, arguments[k : k + 3])
        rows.append((points.stem, audit_pseudo_labels(dataset, pseudo, points)))
    total = {name: sum(row[name] for _, row in rows) for name in COLUMNS[:2]}
    for name, weight in COUNTED.items():
        measured = [(row[name], row[weight]) for _, row in rows if row[name] is not None]
        n = sum(count for _, count in measured)
        total[name] = sum(value * count for value, count in measured) / n if n else None
    print("\t".join(("", *COLUMNS)))
    for label, row in [*rows, ("all", total)]:
        values = (row[name] for name in COLUMNS)
        print(
            "\t".join(
                (
                    label,
                    *("-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values),
                )
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
