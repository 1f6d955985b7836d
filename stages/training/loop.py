"""The training loop: steps, moving average, validation, resume. Knows nothing of stages or files but the resume state."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.data.text import TextCodec
from stages.errors import TrainingError
from stages.inference.devices import autocast, random_state, restore_random_state, used_precision
from stages.models.build import ReferringModel
from stages.models.image_maps import normalise
from stages.reporter import Reporter
from stages.training.batch import Batch
from stages.training.checkpoint import load_resume, save_resume
from stages.training.interruption import uninterrupted
from stages.training.loader import BatchLoader, StepDataset, used_workers
from stages.training.objectives import Objective, build_objective
from stages.training.optimiser import MovingAverage, build_optimiser, schedule_factor, set_rate, trainable
from stages.training.plan import StepPlan
from stages.training.selection import CHOICE
from stages.training.settings import TrainingSettings
from stages.training.sharing import share_batch_norm, sum_gradients
from stages.weights.model_file import LoadedModel, channels_last
from stages.world import ALONE, LostProcessError, World

State = dict[str, Tensor]


@dataclass
class Fitted:
    """weights: `weights` (last), `ema` (last average), `best` (average of the chosen epoch); one history row an epoch.

    The chosen epoch (`selection.chosen_row`) scores best on the images kept back for this, or is the last one.
    """

    weights: dict[str, State]
    history: list[dict[str, Any]]
    seconds: list[float]  # clock of the steps at the end of each epoch; no part of the result's content


@dataclass
class _Progress:
    epoch: int = 0
    step: int = 0  # inside the epoch
    loss_sum: float = 0.0
    best: float = -math.inf
    best_weights: State | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    clock: list[float] = field(default_factory=list)


class Trainer:
    """One run. `fit` does it; everything else is a piece of it."""

    def __init__(
        self,
        model: ReferringModel,
        codec: TextCodec,
        settings: TrainingSettings,
        plan: StepPlan,
        steps: StepDataset,
        validate: Callable[[LoadedModel], dict[str, float]],
        *,
        device: torch.device,
        reporter: Reporter,
        resume_file: Path,
        fingerprint: str,
        objective: Objective | None = None,
        world: World = ALONE,
    ) -> None:
        """`world`: the processes that share each step; every one has a trainer, with the same arguments."""
        share_batch_norm(model, world)
        self.world = world
        self.model = channels_last(model.to(device))
        self.trained = list(trainable(self.model))
        self.codec, self.settings, self.plan = codec, settings, plan
        self.batches = BatchLoader(steps, used_workers(settings.workers, device, world.on_this_machine))
        self.validate = validate
        self.device, self.reporter = device, reporter
        self.resume_file, self.fingerprint = resume_file, fingerprint
        self.precision = used_precision(device, settings.precision)
        self.optimiser = build_optimiser(
            model, kind=settings.optimiser, lr=settings.lr, weight_decay=settings.weight_decay,
            backbone_factor=settings.backbone_lr_factor, text_factor=settings.text_lr_factor,
        )  # fmt: skip
        self.objective: Objective = objective or build_objective(model, settings)
        self.average = MovingAverage(model, settings.ema_decay, average_buffers=settings.ema_buffers)
        self.progress = _Progress()
        self.saved = ""  # where the resume state would go on
        self.saved_at = (0, 0)  # epoch, step

    def restart_average(self) -> None:
        """Begin the moving average at the weights the model has now."""
        self.average = MovingAverage(
            self.model, self.settings.ema_decay, average_buffers=self.settings.ema_buffers
        )

    def fit(self, *, resume: bool = False) -> Fitted:
        """Train to the end. The resume state stays until the caller has the result on disk and calls `forget`."""
        if not self.world.first:  # the first draws what one process would
            torch.manual_seed(torch.initial_seed() + (self.world.rank << 32))
        if resume:
            self._restore(self.world.of_first(lambda: load_resume(self.resume_file, self.fingerprint)))
        try:
            return self._fit()
        except LostProcessError:
            self._tell_where()
            raise
        except KeyboardInterrupt:  # never inside a step, so the state is whole
            if (self.progress.epoch, self.progress.step) != self.saved_at and self.world.size == 1:
                self._save()  # of several processes, the others may be past answering
            self._tell_where()
            raise

    def _tell_where(self) -> None:
        here = f"interrupted in epoch {self.progress.epoch + 1}, step {self.progress.step}"
        self.reporter.warn(f"{here}; saved: {self.saved or 'nothing yet'}")
        if self.saved:
            self.reporter.info("the same command with --resume goes on from there")

    def forget(self) -> None:
        """Remove the resume state."""
        if self.world.first:
            self.resume_file.unlink(missing_ok=True)

    def _fit(self) -> Fitted:
        p, s = self.progress, self.settings
        while p.epoch < s.epochs:
            loss = self._epoch()
            row: dict[str, Any] = {"epoch": p.epoch + 1, "loss": loss}
            if (p.epoch + 1) % s.validate_every == 0 or p.epoch + 1 == s.epochs:
                row.update(self._validate())
            with uninterrupted():
                p.history.append(row)
                p.epoch, p.step, p.loss_sum = p.epoch + 1, 0, 0.0
                p.clock.append(round(p.seconds, 1))
            self._tell({**row, "seconds": p.clock[-1]})
            self._save()
        last = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        weights = {"weights": last, "ema": self.average.values, "best": p.best_weights or self.average.values}
        return Fitted(weights, p.history, p.clock)

    # ------------------------------------------------------------------ pieces

    def _epoch(self) -> float:
        """The rest of the current epoch; mean loss of the whole epoch."""
        p, s = self.progress, self.settings
        entries = self.plan.epoch(p.epoch)
        self.model.train()
        with self.reporter.progress(f"epoch {p.epoch + 1}/{s.epochs}", len(entries), unit="step") as task:
            if p.step:
                task.advance(p.step)
            clock = time.perf_counter()
            for batch in self.batches.epoch(entries[p.step :]):
                rate = self._set_rate(len(entries))
                with uninterrupted():
                    p.loss_sum += self._step(batch.to(self.device))
                    p.step += 1
                task.advance(1, loss=p.loss_sum / p.step, lr=rate)
                if p.step % s.save_every == 0 and p.step < len(entries):
                    p.seconds += time.perf_counter() - clock
                    self._save()
                    clock = time.perf_counter()
            p.seconds += time.perf_counter() - clock
        return p.loss_sum / max(len(entries), 1)

    def _set_rate(self, steps: int) -> float:
        s = self.settings
        done = self.progress.epoch + self.progress.step / steps
        factor = schedule_factor(
            done, kind=s.schedule, warmup=s.warmup_epochs, epochs=s.epochs, decay_epoch=s.decay_epoch
        )
        return set_rate(self.optimiser, factor)

    def _step(self, batch: Batch) -> float:
        s, model = self.settings, self.model
        with autocast(self.device, self.precision):
            images = normalise(batch.images, batch.sizes_hw, model.config)
            outputs = self.objective.predict(images, batch)
        loss = self.objective.loss(outputs, batch, self.world)
        value = self.world.sum(loss.detach()).item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.progress.step} of epoch {self.progress.epoch + 1}",
                facts=self._blame(outputs, batch),
                hint="lower --lr or --clip, or use --precision fp32; --resume continues from the last saved state",
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        sum_gradients(model, self.world)
        if s.clip:
            torch.nn.utils.clip_grad_norm_(self.trained, s.clip)
        self.optimiser.step()
        self.average.update()
        return value

    def _blame(self, outputs: Any, batch: Batch) -> list[str]:
        """Which part of the answer has the bad loss, and whether weights are already bad."""
        facts = self.objective.blame(outputs, batch)
        bad = [n for n, v in self.model.named_parameters() if not bool(v.isfinite().all())]
        return [*facts, f"weights that are not finite: {', '.join(bad[:5]) or 'none'}"]

    def _validate(self) -> dict[str, float]:
        """Scores of the moving average; keeps it when it is the best so far on images kept back for this choice."""
        p = self.progress
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average.values)
        loaded = LoadedModel(model.eval(), model.config, self.codec, self.device)
        scores = self.validate(loaded)
        if scores.get(CHOICE, -math.inf) > p.best:
            best = {k: v.clone() for k, v in self.average.values.items()}
            with uninterrupted():
                p.best, p.best_weights = scores[CHOICE], best
        return scores

    def _tell(self, row: dict[str, Any]) -> None:
        numbers = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        self.reporter.info(numbers)

    # ------------------------------------------------------------------ resume

    def _save(self) -> None:
        """A disk that is full just now costs the state, not the training."""
        p, random = self.progress, self.world.gather(random_state())
        try:
            if self.world.first:
                save_resume(self.resume_file, {
                    "fingerprint": self.fingerprint,
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "average": self.average.state(),
                    "progress": dict(vars(p)),
                    "random": random[0],
                    "random_of_others": random[1:],
                })  # fmt: skip
            self.saved_at = (p.epoch, p.step)
            self.saved = (
                f"epoch {p.epoch + 1}, step {p.step}" if p.epoch < self.settings.epochs else "all epochs"
            )
        except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            self.reporter.warn(f"the resume state {self.resume_file} could not be saved: {reason.lower()}")

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])
        self.progress = _Progress(**state["progress"])
        self._restore_random([state["random"], *state.get("random_of_others", [])])
        self.saved, self.saved_at = (
            "what this run was resumed from",
            (self.progress.epoch, self.progress.step),
        )
        self.reporter.info(f"resumed at epoch {self.progress.epoch + 1}, step {self.progress.step}")

    def _restore_random(self, states: list[dict[str, Any]]) -> None:
        """Each process goes on with its own numbers; of another number of processes, only the first can."""
        if len(states) == self.world.size or self.world.first:
            restore_random_state(states[self.world.rank])
        if len(states) != self.world.size:
            self.reporter.warn(
                f"the run was begun by {len(states)} processes and goes on with {self.world.size}: the order of the data "
                "stays, random numbers of dropout do not"
            )
