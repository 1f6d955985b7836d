"""What an interrupted refinement has already found: a private file beside the output, one line a photograph.

Lines are only ever appended, so a killed run loses the photograph that it was at. The file belongs to one fingerprint,
is locked while a run writes it, and goes when the output is there.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.temporary import private_file
from stages.errors import ArtifactError
from stages.refinement.verdict import REASONS, Verdict

FORMAT = "seqres-refinement-1"


class Found:
    """Verdicts by row, on disk and in memory."""

    def __init__(self, out: Path, fingerprint: str) -> None:
        """Take up what a killed run of the same fingerprint left, or begin.

        Raises:
            ArtifactError: another run is writing the same output, or the folder takes no file.
        """
        self.path = private_file(out, "resume")
        self.verdicts: dict[int, Verdict] = {}
        self.images = 0
        try:
            self._file = open(self.path, "a+b")  # noqa: SIM115 (open as long as the run)
        except OSError as error:
            raise ArtifactError(f"cannot write {self.path}: {(error.strerror or 'error').lower()}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ArtifactError(
                f"another run is writing {out}",
                facts=[f"it holds {self.path}"],
                hint="wait for it, or stop it",
            ) from error
        self._take_up(fingerprint)

    def add(self, verdicts: Mapping[int, Verdict]) -> None:
        """Those of one photograph."""
        self.verdicts.update(verdicts)
        self._write({"rows": [[row, *_plain(v)] for row, v in verdicts.items()]})

    def close(self, *, finished: bool) -> None:
        """Give the lock back; a finished run leaves no file."""
        if finished:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _take_up(self, fingerprint: str) -> None:
        self._file.seek(0)
        good = 0
        try:
            for number, line in enumerate(self._file):
                if not line.endswith(b"\n"):
                    break
                read = json.loads(line)
                if number == 0:
                    if read != {"format": FORMAT, "fingerprint": fingerprint}:
                        break
                else:
                    self.verdicts.update({int(row): _verdict(*rest) for row, *rest in read["rows"]})
                    self.images += 1
                good += len(line)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            pass  # whatever follows a damaged line is found again
        self._file.truncate(good)
        if good == 0:
            self._write({"format": FORMAT, "fingerprint": fingerprint})

    def _write(self, line: Any) -> None:
        try:
            self._file.write(json.dumps(line).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise ArtifactError(
                f"cannot write {self.path}: {(error.strerror or os.strerror(5)).lower()}"
            ) from error


def _plain(verdict: Verdict) -> list[Any]:
    rle = verdict.rle
    return [
        verdict.reason,
        verdict.contour_xy.ravel().tolist(),
        None if rle is None else [rle["size"], bytes(rle["counts"]).decode("ascii")],
        verdict.box_iou,
        verdict.contour_iou,
        verdict.score,
    ]


def _verdict(reason: str, contour: list[float], rle: Any, *numbers: float) -> Verdict:
    if reason not in REASONS or len(numbers) != 3:
        raise ValueError(reason)
    mask = None if rle is None else {"size": [int(n) for n in rle[0]], "counts": rle[1].encode("ascii")}
    return Verdict(reason, np.array(contour, np.float32).reshape(-1, 2), mask, *(float(n) for n in numbers))
