"""SiRi: the same training several times over, each time from what the round before is allowed to hand on (METHOD.md section 5)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.artifacts.temporary import private_file
from stages.models.build import ReferringModel
from stages.models.siri import take_over
from stages.reporter import Reporter
from stages.training.checkpoint import belongs, load_resume, resume_path, save_resume
from stages.training.loop import Fitted, State, Trainer
from stages.training.selection import chosen_row
from stages.world import ALONE, World

Keep = Literal["encoder", "all"]


@dataclass
class Rounds:
    """The last round's weights, all rounds' history (rows carry `round` when there are several), the last model."""

    fitted: Fitted
    model: ReferringModel
    seconds: float


def rounds_path(out: Path) -> Path:
    """Private file between two rounds, beside the resume state."""
    return private_file(out, "rounds")


def forget_states(out: Path) -> None:
    """Remove the private files beside `out`, once that is written."""
    resume_path(out).unlink(missing_ok=True)
    rounds_path(out).unlink(missing_ok=True)


def hand_on(model: ReferringModel, previous: State, keep: Keep) -> str:
    """Put what is kept of the round before into a new model; one line about it.

    `encoder`: SiRi. `all`: every weight, so that only optimiser, schedule and average start anew; the control that has
    seen as many steps without re-initialisation.
    """
    if keep == "all":
        model.load_state_dict(previous)
        return "every tensor of the round before is kept"
    kept = take_over(model, previous, model.config.family)
    return f"{len(kept)} of {len(model.state_dict())} tensors are kept: the multimodal encoder"


def fit_rounds(
    make: Callable[[int], Trainer],
    *,
    rounds: int,
    keep: Keep,
    out: Path,
    resume: bool,
    start: State | None = None,
    fingerprint: str,
    reporter: Reporter,
    world: World = ALONE,
) -> Rounds:
    """One training, then `rounds` more.

    Args:
        make: number of the round, from 0 -> its trainer with a new model (pretrained parts loaded).
        rounds: how often training starts over; 0 = plain training.
        keep: what of the moving average of one round enters the next.
        out: beside it lie the private files of the run, until `forget_states`.
        start: moving average of an earlier training, which enters the first round; None = it starts from nothing.
        fingerprint: of the run; a state of another run is refused.
        world: the processes that share the training; the first one's files count.
    """
    state_file = rounds_path(out)
    number, previous, history, seconds = 0, start, [], 0.0
    if not resume and world.first:
        state_file.unlink(missing_ok=True)
    state = world.of_first(
        lambda: load_resume(state_file, fingerprint) if resume and rounds and state_file.exists() else None
    )
    if state is not None:
        number, previous, history, seconds = state["round"], state["kept"], state["history"], state["seconds"]
    while True:
        trainer = make(number)
        if previous is not None:
            reporter.info(f"round {number + 1} of {rounds + 1}: {hand_on(trainer.model, previous, keep)}")
            trainer.restart_average()
        # interrupted after a round, the next one may have no state of its own yet, but still that of the round before
        fresh = not resume or (number > 0 and not belongs(trainer.resume_file, trainer.fingerprint))
        fitted = trainer.fit(resume=not world.broadcast(fresh))
        history += [{"round": number + 1, **row} for row in fitted.history] if rounds else fitted.history
        seconds += fitted.seconds[-1]
        if number == rounds:
            break
        number, previous, resume = number + 1, fitted.weights["ema"], False
        if world.first:
            kept = {"round": number, "kept": previous, "history": history, "seconds": seconds}
            save_resume(state_file, {"fingerprint": fingerprint, **kept})
        trainer.forget()  # only now: a kill in between loses nothing
    return Rounds(Fitted(fitted.weights, history, fitted.seconds), trainer.model, seconds)


def round_summaries(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Last row and chosen row of each round."""
    out = []
    for number in sorted({row["round"] for row in history if "round" in row}):
        rows = [row for row in history if row["round"] == number]
        out.append({"round": number, "final": rows[-1], "best": chosen_row(rows)})
    return out
