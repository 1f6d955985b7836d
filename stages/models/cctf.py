"""CCTF, co-content teacher forcing (METHOD.md section 3): what the image shows at a predicted coordinate.

The decoder input of a coordinate token is its embedding plus c(token): for an x token the mean of the memory
column under it, for a y token the mean of the memory row. Every row and column mean is computed once an image;
a token costs one gather. Letters: S sentences, H x W memory cells, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.models.memory import Memory
from stages.models.to_device import to_device


@dataclass
class Content:
    """Means of the memory's columns and rows, with one zero line at the end for "no content".

    Attributes:
        lines: (S, W + H + 1, D): what x tokens look up, then what y tokens look up, then zeros.
        extent: (S, 2) number of lines that the token range spans on the x and on the y axis.
        n_x: how many of `lines` belong to x.
    """

    lines: Tensor
    extent: Tensor
    n_x: int
    n_bins: int

    def look_up(self, tokens: Tensor, axes: Tensor) -> Tensor:
        """tokens (S, T) int64 and axes (T,) (0 = x, 1 = y, -1 = none) -> content (S, T, D)."""
        line = torch.div(tokens * self.extent[:, axes.clamp(min=0)], self.n_bins, rounding_mode="floor")
        return self.gather(line, axes, (axes < 0)[None] | (tokens == self.n_bins))

    def gather(self, line: Tensor, axes: Tensor, nothing: Tensor) -> Tensor:
        """line (S, T) int64 within its axis; nothing (S or 1, T) bool where the content is 0 -> (S, T, D)."""
        index = (line + self.n_x * (axes == 1)).masked_fill(nothing, self.lines.shape[1] - 1)
        return self.lines.gather(1, index[..., None].expand(-1, -1, self.lines.shape[-1]))


class ReleaseContent(Content):
    """The release's look-up (METHOD.md section 4.1): line int(t / 1000 * (lines - 1)), also for END."""

    def look_up(self, tokens: Tensor, axes: Tensor) -> Tensor:
        line = (tokens / 1000 * (self.extent[:, axes.clamp(min=0)] - 1)).long()
        return self.gather(line, axes, (axes < 0)[None])


def memory_content(memory: Memory, n_bins: int) -> Content:
    """x looks up column floor(x * W_own), y row floor(y * H_own): means over the image's valid cells; END gives 0."""
    cells, nothing = _cells(memory)
    valid = memory.mask[:, : cells.shape[1] * cells.shape[2]].view(*cells.shape[:3], 1).to(cells.dtype)
    cells = cells * valid
    columns = cells.sum(1) / valid.sum(1).clamp(min=1)
    rows = cells.sum(2) / valid.sum(2).clamp(min=1)
    lines = torch.cat((columns, rows, nothing), 1)
    return Content(lines, memory.own_cells_hw.flip(-1), memory.grid_hw[1], n_bins)


def memory_content_release(memory: Memory, n_bins: int) -> Content:
    """x looks up a ROW and y a COLUMN of the batch's grid, and padding takes part in the means."""
    cells, nothing = _cells(memory)
    lines = torch.cat((cells.mean(2), cells.mean(1), nothing), 1)
    extent = to_device(torch.tensor([memory.grid_hw]), cells.device).expand(len(cells), 2)
    return ReleaseContent(lines, extent, memory.grid_hw[0], n_bins)


def _cells(memory: Memory) -> tuple[Tensor, Tensor]:
    """The image cells (S, H, W, D) and a line of zeros (S, 1, D)."""
    s, d = memory.tokens.shape[0], memory.tokens.shape[-1]
    h, w = memory.grid_hw
    cells = memory.tokens[:, : h * w].view(s, h, w, d)
    return cells, cells.new_zeros(s, 1, d)
