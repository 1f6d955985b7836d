"""What the trainings of a row cost, and how its score grew: rows can be compared only where they saw as much."""

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Cost:
    """What all trainings on masks behind a model have seen: their own steps, images (steps times images a step) and
    sequences (images times expressions of one, at most).
    """

    steps: int = 0
    images: int = 0
    sequences: int = 0


def cost_of(model: Artifact, files: Mapping[str, Artifact]) -> Cost | None:
    """The training of a model and those before it: of the model that it goes on from, and of those that predicted its
    pseudo points. The box model counts nothing.

    `files`: digest -> models, pseudo and resampled points. None where one of them is missing or does not tell.
    """
    steps = images = sequences = 0
    seen, waiting = set[str](), [model]
    while waiting:
        file = waiting.pop()
        if file.digest in seen or file.kind == "rec_model":
            continue
        seen.add(file.digest)
        if file.kind == "res_model":
            own = _own_cost(file)
            if own is None:
                return None
            steps, images, sequences = steps + own.steps, images + own.images, sequences + own.sequences
        for part in file.provenance.get("inputs", []):
            if part["role"] in ("init", "points", "pseudo", "model"):
                if part["digest"] not in files:
                    return None
                waiting.append(files[part["digest"]])
    return Cost(steps, images, sequences)


def masks_seen(model: Artifact) -> int | None:
    """Contours that the model learned from true masks; 0 for a comprehension model."""
    if model.kind == "rec_model":
        return 0
    value = model.json("summary").get("contours_from_masks") if "summary" in model else None
    return int(value) if isinstance(value, int) else None


def _own_cost(model: Artifact) -> Cost | None:
    config = {key: one["value"] for key, one in model.provenance.get("config", {}).items()}
    # files of old versions say sentences
    each = config.get("expressions_per_image", config.get("sentences_per_image"))
    numbers = (config.get("steps_per_epoch"), config.get("epochs"), config.get("batch_images"), each)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        return None
    a, b, c, d = (int(n) for n in numbers if n is not None)
    return Cost(a * b, a * b * c, a * b * c * d)


def _seconds(model: Artifact) -> float:
    clock: list[Any] = (
        model.json("notes/timing")["training_seconds_after_epoch"] if "notes/timing" in model else []
    )
    return float(clock[-1]) if clock else 0.0
