"""A request to end (SIGTERM of a scheduler, SIGHUP of a closed terminal) is treated like Ctrl-C: files are put in order."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Ended:
    """`signal`: the number of the signal that asked for the end, 0 without one. `told`: why it ends is being said, which
    such a signal does not cut off."""

    signal: int = 0
    told: bool = False


@contextmanager
def ended_like_ctrl_c() -> Iterator[Ended]:
    """KeyboardInterrupt on SIGTERM and SIGHUP, once; `nohup` (SIGHUP ignored) is respected."""
    ended, here = Ended(), os.getpid()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # asked twice: at once
        if os.getpid() != here:  # a worker process that inherited this
            os.kill(os.getpid(), number)
            return
        ended.signal = number
        if not ended.told:
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield ended
    finally:
        for number in ours:
            signal.signal(number, before[number])
