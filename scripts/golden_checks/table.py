"""Rows of the result table: case, quantity, largest absolute error, tolerance, ok."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    case: str
    quantity: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.tolerance)  # NaN is a miss


class Report:
    """Collects rows of one case."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.rows: list[Row] = []

    def close(
        self, quantity: str, ours: Any, reference: Any, tolerance: float, *, relative: bool = False
    ) -> None:
        """Largest |difference| (over the largest |reference| with `relative`); a shape that differs is a miss.

        A reference of None is a quantity that this case does not hold: no row.
        """
        if reference is None:
            return
        a, b = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
        if a.shape != b.shape:
            self.rows.append(
                Row(self.case, quantity, float("inf"), tolerance, f"shape {a.shape}, expected {b.shape}")
            )
            return
        error = float(np.abs(a - b).max()) if a.size else 0.0
        if relative:
            error /= max(float(np.abs(b).max()), 1e-12)
        self.rows.append(Row(self.case, quantity, error, tolerance, "relative" if relative else ""))

    def same(self, quantity: str, ours: Any, reference: Any) -> None:
        """Exact equality of arrays, lists or texts; the error is how many entries differ. None as in `close`."""
        if reference is None:
            return
        if isinstance(ours, np.ndarray) or isinstance(reference, np.ndarray):
            a, b = np.asarray(ours), np.asarray(reference)
            wrong = int((a != b).sum()) if a.shape == b.shape else max(a.size, b.size, 1)
            note = "" if a.shape == b.shape else f"shape {a.shape}, expected {b.shape}"
        else:
            a_list, b_list = (list(v) if isinstance(v, list | tuple) else [v] for v in (ours, reference))
            wrong = sum(x != y for x, y in zip(a_list, b_list, strict=False)) + abs(len(a_list) - len(b_list))
            note = ""
        self.rows.append(Row(self.case, quantity, float(wrong), 0.0, note))

    def failed(self, error: Exception) -> None:
        """A case that could not be computed at all."""
        words = str(error).splitlines()[0] if str(error) else ""
        self.rows.append(Row(self.case, "runs", float("nan"), 0.0, f"{type(error).__name__}: {words}"))


def lines(rows: Iterable[Row], *, every: bool = True) -> list[str]:
    """The table as text; with `every=False` only the misses."""
    shown = [r for r in rows if every or not r.ok]
    case = max((len(r.case) for r in shown), default=4)
    quantity = max((len(r.quantity) for r in shown), default=8)
    out = [f"{'case':<{case}}  {'quantity':<{quantity}}  {'max abs error':>13}  {'tolerance':>9}  ok"]
    for r in shown:
        tolerance = "exact" if r.tolerance == 0 else f"{r.tolerance:.0e}"
        mark = "yes" if r.ok else "NO"
        out.append(
            f"{r.case:<{case}}  {r.quantity:<{quantity}}  {r.error:>13.3g}  {tolerance:>9}  {mark:<3} {r.note}".rstrip()
        )
    return out
