"""The processes that `torchrun` starts: which of them this one is, from the environment that it sets."""

import os
from collections.abc import Sequence

from stages.errors import UsageError
from stages.world import ALONE, World, join

# The commands whose work several processes share.
SHARING = ("train-rec", "train-res", "pseudo-label", "refine-masks", "evaluate", "predict")


def world_of_environment(arguments: Sequence[str]) -> World:
    """This process among the others; without WORLD_SIZE it is alone, and nothing is imported for them.

    Raises:
        UsageError: a command of which every process would do the whole work; a number that is none; nobody to meet.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    command = arguments[0] if arguments else ""
    if command not in SHARING:
        raise UsageError(
            f"{command or 'seqres'} is not for several processes, and this is one of {size}",
            facts=[f"those that share their work: {', '.join(SHARING)}"],
            hint="run it without torchrun (and with WORLD_SIZE unset)",
        )
    rank = _number("RANK", None)
    return join(rank, size, _number("LOCAL_RANK", rank), _number("LOCAL_WORLD_SIZE", size))


def _number(name: str, otherwise: int | None) -> int:
    text = os.environ.get(name, "")
    if not text and otherwise is not None:
        return otherwise
    if not text.isascii() or not text.isdigit():
        raise UsageError(
            f"{name} is {text!r}, which is no number",
            facts=["WORLD_SIZE and RANK say which of several processes this one is"],
            hint="start several processes with: torchrun --nproc-per-node N -m seqres_cli …; for one, unset WORLD_SIZE",
        )
    return int(text)
