"""Mean and spread over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for a single value) and number of values."""

    mean: float
    deviation: float | None
    n: int

    def text(self, digits: int = 3, scale: float = 1.0) -> str:
        """ "0.441 ± 0.012" """
        mean = f"{scale * self.mean:.{digits}f}"
        return mean if self.deviation is None else f"{mean} ± {scale * self.deviation:.{digits}f}"


def spread(values: Sequence[float | None]) -> Spread | None:
    """Over the values that are finite numbers; None when there is none. The deviation divides by n - 1."""
    known = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return Spread(mean, None, 1)
    variance = math.fsum((v - mean) ** 2 for v in known) / (len(known) - 1)
    return Spread(mean, math.sqrt(variance), len(known))
