"""CCTF, co-content teacher forcing (METHOD.md section 3): what the image shows at a predicted coordinate.

The decoder input of a coordinate token is its embedding plus c(token): for an x token the mean of the memory
column under it, for a y token the mean of the memory row. Every row and column mean is computed once an image;
a token costs one gather. Letters: S sentences, H x W memory cells, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.models.memory import Memory


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
    release: bool

    def look_up(self, tokens: Tensor, axes: Tensor) -> Tensor:
        """tokens (S, T) int64 and axes (T,) (0 = x, 1 = y, -1 = none) -> content (S, T, D)."""
        extent = self.extent[:, axes.clamp(min=0)]  # (S, T)
        if self.release:
            index = (tokens / 1000 * (extent - 1)).long()
        else:
            index = torch.div(tokens * extent, self.n_bins, rounding_mode="floor")
        index = index + self.n_x * (axes == 1)
        nothing = (axes < 0)[None] if self.release else (axes < 0)[None] | (tokens == self.n_bins)
        index = index.masked_fill(nothing, self.lines.shape[1] - 1)
        return self.lines.gather(1, index[..., None].expand(-1, -1, self.lines.shape[-1]))


def memory_content(memory: Memory, n_bins: int, *, release: bool) -> Content:
    """Row and column means of a memory.

    Corrected: x looks up column floor(x * W_own), y row floor(y * H_own), means over the image's valid cells,
    END gives 0. Release (METHOD.md section 4.1): x looks up ROW int(t/1000*(H-1)) and y COLUMN int(t/1000*(W-1)) of the
    batch's grid, padding takes part in the mean, END reads the last line.
    """
    s, d = memory.tokens.shape[0], memory.tokens.shape[-1]
    h, w = memory.grid_hw
    cells = memory.tokens[:, : h * w].view(s, h, w, d)
    nothing = cells.new_zeros(s, 1, d)
    if release:
        lines = torch.cat((cells.mean(2), cells.mean(1), nothing), 1)
        return Content(lines, torch.tensor([[h, w]], device=cells.device).expand(s, 2), h, n_bins, True)
    valid = memory.mask[:, : h * w].view(s, h, w, 1).to(cells.dtype)
    cells = cells * valid
    columns = cells.sum(1) / valid.sum(1).clamp(min=1)
    rows = cells.sum(2) / valid.sum(2).clamp(min=1)
    return Content(torch.cat((columns, rows, nothing), 1), memory.own_cells_hw.flip(-1), w, n_bins, False)
