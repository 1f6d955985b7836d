"""What an experiment is asked for, and the numbers that belong to a scale. Trainings are recipes (stages/configs)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.errors import UsageError, nearest_hint
from stages.experiment_report import Experiment, Row, RunFiles

ALL = 1.0
# ------------------------------------------------------------------ shares of the masks, by scale
_LARGE, _SMALL, _TINY = (0.005, 0.01, 0.05, 0.1, 1.0), (0.02, 0.05, 0.2, 1.0), (0.3, 1.0)
FEW = {  # of the ablation
    "tiny": 0.3, "smoke": 0.05, "standard": 0.01, "objects-tiny": 0.3, "objects-smoke": 0.05, "objects": 0.01,
}  # fmt: skip
CURVE = {
    "tiny": _TINY, "smoke": _SMALL, "standard": _LARGE, "objects-tiny": _TINY, "objects-smoke": _SMALL, "objects": _LARGE,
}  # fmt: skip
FIGURE1 = {
    "tiny": _TINY, "smoke": (0.05, 0.25, 1.0), "standard": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0),
    "objects-tiny": _TINY, "objects-smoke": (0.05, 0.25, 1.0), "objects": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0),
}  # fmt: skip
ZOOMS = ("zoom", "zoom-augmented", "zoom-augmented-short")  # recipes whose window follows --zoom
SIRI_ROUNDS = 1  # trainings after the first one
LATER_PROMPT = "box"  # recipe of pseudo-label in the second round
# Further evaluations of a model: column -> (beginning of the file's name; the recipe is eval-…)
BESIDE = {"miou_given_box": "box-", "miou_marked": "marked-", "miou_marked_given_box": "marked-box-"}

BUDGET = ("steps", "pictures", "minutes", "last_quarter")  # columns: what a row's trainings on masks cost


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    scale: str = "smoke"
    seeds: tuple[int, ...] = (0, 1, 2)
    dataset: Path | None = None  # instead of RefShapes
    splits: tuple[str, ...] = ("val",)
    model: str = ""  # as the recipe says, like the next
    mdetr_model: str = ""
    zoom: int = 112
    device: str = "auto"
    rec_flags: str = ""  # of train-rec, after all others: the last one counts
    mdetr_flags: str = ""  # of train-rec with the MDETR model
    res_flags: str = ""  # of every train-res call


@dataclass(frozen=True)
class Trained:
    """The last model of a row, the models of the trainings on masks before it, and the (pseudo, points) files of each
    round: names in a seed's folder.
    """

    model: str
    before: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """What an experiment needs, and what it tells afterwards."""

    targets: tuple[str, ...]
    report: Experiment


@dataclass
class RowMaker:
    """Collects rows, each with the files of all seeds."""

    settings: Settings
    out: Path
    rows: dict[str, Row] = field(default_factory=dict)
    # files that must be made; a set that keeps its order
    targets: dict[str, None] = field(default_factory=dict)

    def add(
        self,
        name: str,
        label: str,
        ratio: float,
        trained: Trained,
        *,
        beside: Sequence[str] = (),
        attention: bool = False,
        **relations: Any,
    ) -> None:
        """A row and what it needs. `beside`: further columns, keys of BESIDE; attention: its attention is measured."""
        runs = []
        for seed in self.settings.seeds:
            evaluation = self._scores(seed, trained.model)
            others = tuple((column, self._scores(seed, BESIDE[column] + trained.model)) for column in beside)
            labels = tuple((self._file(seed, a), self._file(seed, b)) for a, b in trained.labels)
            model = self._file(seed, trained.model)
            on_masks = (
                tuple(self._file(seed, name) for name in (*trained.before, trained.model)) if ratio else ()
            )
            looked = self._wanted(seed, f"attention/{trained.model}") if attention else None
            runs.append(
                RunFiles(seed, evaluation, others, model, trainings=on_masks, attention=looked, labels=labels)
            )
        self.rows[name] = Row(name, label, ratio, tuple(runs), **relations)

    def _file(self, seed: int, name: str) -> Path:
        return self.out / f"seed{seed}" / f"{name}.h5"

    def _scores(self, seed: int, name: str) -> Path:
        return self._wanted(seed, f"eval/{name}")

    def _wanted(self, seed: int, name: str) -> Path:
        path = self._file(seed, name)
        self.targets[path.relative_to(self.out).as_posix()] = None
        return path


def chosen_rows(asked: Sequence[str], groups: Mapping[str, Sequence[str]], known: Sequence[str]) -> list[str]:
    """Names of rows, with the names of groups (and second names) replaced by what they stand for.

    Raises:
        UsageError: an unknown name.
    """
    wanted: set[str] = set()
    for name in asked:
        if name in groups:
            wanted |= set(groups[name])
        elif name in known:
            wanted.add(name)
        else:
            raise UsageError(
                f"no such row: {name!r}",
                facts=[f"rows: {', '.join(known)}", f"groups: {', '.join(groups)}"],
                hint=nearest_hint(name, [*groups, *known]),
            )
    return [name for name in known if name in wanted]
