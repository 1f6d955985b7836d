"""Settings of an experiment, and the nodes that every experiment is put together from."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqres_cli.experiments import recipes
from seqres_cli.experiments.graph import Graph, Node
from seqres_cli.experiments.recipes import Length
from stages.errors import UsageError, did_you_mean
from stages.experiment_report import Experiment, Row, RunFiles

ALL = 1.0


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    scale: str = "smoke"
    seeds: tuple[int, ...] = (0, 1, 2)
    dataset: Path | None = None  # instead of RefShapes
    splits: tuple[str, ...] = ("val",)
    model: str = "refshapes-small"
    mdetr_model: str = "refshapes-small-mdetr"
    zoom: int = 112
    device: str = "auto"
    rec_flags: str = ""  # of train-rec, after all others: the last one counts
    mdetr_flags: str = ""  # of train-rec with the MDETR model
    res_flags: str = ""  # of every train-res call


@dataclass(frozen=True)
class Trained:
    """The last model of a row, and the (pseudo, points) files of each round before it."""

    model: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass
class Plan:
    """What an experiment runs, and what it tells afterwards."""

    graph: Graph
    report: Experiment


@dataclass
class Bench:
    """Makes the nodes of one seed. The data are those of seed 0 for all: only splits and trainings differ."""

    graph: Graph
    settings: Settings
    seed: int = 0
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder = f"seed{self.seed}"

    def dataset(self) -> str:
        s = self.settings
        if s.dataset is not None:
            return str(s.dataset.absolute())
        flags = ("--source", "refshapes", "--scale", s.scale, "--seed", "0")
        return self._add("dataset.h5", "prepare-data", flags, (), recipes.PREPARE_SECONDS[s.scale])

    def split(self, ratio: float) -> str:
        flags = ("--ratio", f"{ratio:g}", "--seed", str(self.seed))
        return self._own(f"split-{ratio:g}", "split-masks", flags, (), 2.0)

    def rec(
        self, name: str = "rec", model: str | None = None, more: str = "", init: str | None = None
    ) -> str:
        """A comprehension model: `rec` of the point sequence, `mdetr` …, perhaps a round after `init`."""
        mdetr = name != "rec"
        length = _at(recipes.LENGTHS[self.settings.scale]["mdetr-rec" if mdetr else "rec"], ALL)
        s = self.settings
        flags = ["--model", model or s.model, *_words((recipes.MDETR_REC if mdetr else recipes.REC)[s.scale])]
        flags += [*self._training(length), *_words(more), *_words(s.mdetr_flags if mdetr else s.rec_flags)]
        seconds = _steps(length) * recipes.STEP_SECONDS["mdetr" if mdetr else "rec"]
        return self._own(
            name, "train-rec", flags, [("init", init)] if init else (), seconds + recipes.START_SECONDS
        )

    def res(
        self,
        name: str,
        ratio: float,
        role: str,
        flags: str,
        *,
        rec: str | None = None,
        points: str | None = None,
        init: str | None = None,
    ) -> str:
        """A segmentation model that learns from a share of the masks; `role` names its length in recipes.LENGTHS."""
        length = _at(recipes.LENGTHS[self.settings.scale][role], ratio)
        flags = flags.format(zoom=self.settings.zoom)
        rate = recipes.RATES.get(role, recipes.RATE)
        words = [*_words(recipes.RES[self.settings.scale]), "--lr", f"{rate:g}", *_words(flags)]
        words += self._training(length)
        words += _words(self.settings.res_flags)
        inputs = [("split", self.split(ratio)), ("rec", rec or self.rec())]
        inputs += [("points", points)] if points else []
        inputs += [("init", init)] if init else []
        kind = "zoom" if "--zoom" in flags else "mdetr" if role.startswith("mdetr") else "whole"
        seconds = _steps(length) * recipes.STEP_SECONDS[kind] + recipes.START_SECONDS
        return self._own(f"{name}-{ratio:g}", "train-res", words, inputs, seconds)

    def labels(
        self, name: str, ratio: float, model: str, prompt: str, select: str, refined: bool = False
    ) -> tuple[str, str]:
        """Pseudo labels by the model, perhaps refined, and what is kept of them: two files, named by their maker."""
        device = ("--device", self.settings.device)
        inputs = [("split", self.split(ratio)), ("model", model)]
        pseudo = self._own(
            f"pseudo-{name}-{prompt}-{ratio:g}",
            "pseudo-label",
            (*_words(recipes.PSEUDO[prompt]), *device),
            inputs,
            recipes.PSEUDO_SECONDS[self.settings.scale],
        )
        if refined:
            prompt += "-refined"
            seconds = recipes.REFINE_SECONDS[self.settings.scale]
            pseudo = self._own(
                f"pseudo-{name}-{prompt}-{ratio:g}", "refine-masks", (), [("pseudo", pseudo)], seconds
            )
        points = self._own(
            f"points-{name}-{prompt}-{select}-{ratio:g}",
            "resample-points",
            _words(recipes.SELECT[select]),
            [("pseudo", pseudo)],
            5.0,
        )
        return pseudo, points

    def evaluation(self, model: str, column: str = "miou") -> str:
        """Scores of a model, or those that only give a column of recipes.BESIDE."""
        before, more = recipes.BESIDE.get(column, ("", ""))
        flags = [word for split in self.settings.splits for word in ("--splits", split)]
        flags += [*_words(recipes.EVALUATE[self.settings.scale]), "--device", self.settings.device]
        flags = [*_words(more), *flags]
        name = f"eval/{before}{Path(model).stem}"
        seconds = recipes.EVALUATE_SECONDS[self.settings.scale]
        return self._own(name, "evaluate", flags, [("model", model)], seconds)

    def _training(self, length: Length) -> list[str]:
        flags = ["--epochs", str(length[0]), "--steps-per-epoch", str(length[1])]
        flags += _words(recipes.TRAINING[self.settings.scale])
        return [*flags, "--seed", str(self.seed), "--device", self.settings.device]

    def _own(
        self, name: str, stage: str, flags: Sequence[str], inputs: Sequence[tuple[str, str]], seconds: float
    ) -> str:
        """A node of this seed; all of them read the dataset."""
        given = [("dataset", self.dataset()), *inputs]
        return self._add(f"{self.folder}/{name}.h5", stage, flags, given, seconds)

    def _add(
        self, out: str, stage: str, flags: Sequence[str], inputs: Sequence[tuple[str, str]], seconds: float
    ) -> str:
        return self.graph.add(Node(out, stage, tuple(flags), tuple(inputs), seconds))


@dataclass
class RowMaker:
    """Collects rows, each with the files of all seeds."""

    graph: Graph
    settings: Settings
    out: Path
    rows: dict[str, Row] = field(default_factory=dict)

    def benches(self) -> list[Bench]:
        return [Bench(self.graph, self.settings, seed) for seed in self.settings.seeds]

    def add(
        self,
        name: str,
        label: str,
        ratio: float,
        train: Callable[[Bench], Trained],
        *,
        beside: Sequence[str] = (),
        **relations: Any,
    ) -> None:
        """A row: `train` makes its nodes for a seed. `beside`: further columns, keys of recipes.BESIDE."""
        runs = []
        for bench in self.benches():
            trained = train(bench)
            evaluation = bench.evaluation(trained.model)
            others = tuple((name, self.out / bench.evaluation(trained.model, name)) for name in beside)
            labels = tuple((self.out / a, self.out / b) for a, b in trained.labels)
            runs.append(
                RunFiles(
                    seed=bench.seed,
                    evaluation=self.out / evaluation,
                    beside=others,
                    model=self.out / trained.model,
                    labels=labels,
                )
            )
        self.rows[name] = Row(name, label, ratio, tuple(runs), **relations)


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
            near = did_you_mean(name, [*groups, *known])
            raise UsageError(
                f"no such row: {name!r}",
                facts=[f"rows: {', '.join(known)}", f"groups: {', '.join(groups)}"],
                hint=f"did you mean {near}?" if near else None,
            )
    return [name for name in known if name in wanted]


def _words(flags: str) -> list[str]:
    return shlex.split(flags)


def _at(length: Length | dict[float, Length], ratio: float) -> Length:
    """The length that holds at a share of the masks: that of the largest limit not above it."""
    if isinstance(length, dict):
        return length[max(limit for limit in length if limit <= ratio)]
    return length


def _steps(length: Length) -> int:
    return length[0] * length[1]
