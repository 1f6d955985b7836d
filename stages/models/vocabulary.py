"""The token map and what every slot of a sequence means (METHOD.md sections 2, 3 and 6).

    token      0 … n_bins-1   a coordinate: floor(value / side * n_bins), x relative to the image's own padded
                              width, y to its height
    token      n_bins         END

    box          [TASK] x1 y1 x2 y2                          (END is trained after it, never decoded)
    contour      [TASK] x1 y1 … xN yN END
    box-contour  [TASK] x1 y1 x2 y2  p1 … pN END             first four slots are the box task
    multitask    [TASK_box] x1 y1 x2 y2 [TASK_mask] x1 y1 … xN yN END

Position t of the decoder reads input t (a task token or the token decoded at t-1) and predicts output t.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.models.config import ModelConfig

BOX_SLOTS = 4
MIN_POINTS = 3


@dataclass(frozen=True)
class SequenceLayout:
    """Slots of one sequence.

    Attributes:
        length: decoder positions while training, T.
        starts: positions whose input is a task token, with the index of that token.
        box: output positions of x1 y1 x2 y2 (empty when the sequence has no box).
        contour: output positions of the 2N contour coordinates (empty without).
        ends: output positions whose target is always END.
        decoded: output positions that greedy decoding fills, in order.
    """

    n_bins: int
    length: int
    starts: dict[int, int]
    box: tuple[int, ...]
    contour: tuple[int, ...]
    ends: tuple[int, ...]
    decoded: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.n_bins

    @property
    def vocabulary_size(self) -> int:
        return self.n_bins + 1

    def axis_of_output(self) -> NDArray[np.int64]:
        """(T,) 0 where the output is an x, 1 where it is a y, -1 for END slots."""
        axes = np.full(self.length, -1, np.int64)
        for slots in (self.box, self.contour):
            for k, position in enumerate(slots):
                axes[position] = k % 2
        return axes

    def end_allowed(self) -> NDArray[np.bool_]:
        """(T,) True where decoding may predict END: after three points of a contour, for fewer enclose nothing."""
        return self._end_after(2 * MIN_POINTS)

    def end_allowed_release(self) -> NDArray[np.bool_]:
        """(T,) The release allows END from the first contour slot on, its multi-task decoder from the fifth (ODDITIES A15)."""
        return self._end_after(BOX_SLOTS if len(self.starts) == 2 else 0)

    def _end_after(self, slots: int) -> NDArray[np.bool_]:
        allowed = np.zeros(self.length, np.bool_)
        if self.contour:
            allowed[[*self.contour[slots:], self.length - 1]] = True
        return allowed


def sequence_layout(config: ModelConfig) -> SequenceLayout:
    n = 2 * config.n_points
    if config.family == "mdetr":  # a detector predicts no tokens
        return SequenceLayout(config.n_bins, 0, {}, (), (), (), ())
    if config.sequence == "box":
        return SequenceLayout(config.n_bins, 5, {0: 0}, (0, 1, 2, 3), (), (4,), (0, 1, 2, 3))
    if config.sequence == "contour":
        return SequenceLayout(config.n_bins, n + 1, {0: 0}, (), tuple(range(n)), (n,), tuple(range(n + 1)))
    if config.sequence == "box-contour":
        contour = tuple(range(4, 4 + n))
        return SequenceLayout(
            config.n_bins, n + 5, {0: 0}, (0, 1, 2, 3), contour, (n + 4,), tuple(range(n + 5))
        )
    contour = tuple(range(5, 5 + n))
    return SequenceLayout(
        config.n_bins, n + 6, {0: 0, 5: 1}, (0, 1, 2, 3), contour, (4, n + 5), (0, 1, 2, 3, *range(5, n + 6))
    )
