"""What the trainings of a row cost, and how its score grew: rows can be compared only where they saw as much."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.artifacts import Artifact, open_artifact


@dataclass(frozen=True)
class Budget:
    """All trainings of a row on masks or contours, one after another; the box model before them is not counted.

    Attributes:
        steps, pictures: of all trainings; pictures = steps times images a step.
        minutes: clock of the steps.
        curve: (steps so far, mIoU on the validation split) after each validated epoch, trainings one after another.
        last_quarter: mIoU gained in the last quarter of the last training; None where that was not validated.
    """

    steps: int
    pictures: int
    minutes: float
    curve: tuple[tuple[int, float], ...]
    last_quarter: float | None


def budget_of(trainings: Sequence[Path]) -> Budget | None:
    """Read from the models' files; None where one is not there or does not tell how many steps an epoch had."""
    steps = pictures = 0
    minutes, curve, gained = 0.0, [], None
    for path in trainings:
        if not path.is_file():
            return None
        with open_artifact(path, "res_model") as model:
            config = {key: one["value"] for key, one in model.provenance.get("config", {}).items()}
            if not config.get("steps_per_epoch"):
                return None
            history, seconds = model.json("history"), _seconds(model)
        each = int(config["steps_per_epoch"])
        known = {row["epoch"]: float(row["val_miou"]) for row in history if row.get("val_miou") is not None}
        curve += [(steps + each * epoch, score) for epoch, score in known.items()]
        n = len(history)
        gained = None if n % 4 or not {n, n * 3 // 4} <= known.keys() else known[n] - known[n * 3 // 4]
        steps += each * len(history)
        pictures += each * len(history) * int(config["batch_images"])
        minutes += seconds / 60
    return Budget(steps, pictures, minutes, tuple(curve), gained) if trainings else None


def _seconds(model: Artifact) -> float:
    clock: list[Any] = (
        model.json("notes/timing")["training_seconds_after_epoch"] if "notes/timing" in model else []
    )
    return float(clock[-1]) if clock else 0.0
