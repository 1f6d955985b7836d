"""Content of a finished point: the backbone's finer map at the pixel that the last (x, y) pair points at.

Beyond the paper: CCTF shows a token its memory column or row; once both coordinates of a point are known, the
decoder can be shown the place itself, at twice the memory's resolution, so that it follows an edge instead of
guessing it. Letters: I images, S sentences, T slots, C channels, h x w cells of the finer map.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class FineMap:
    """Finer backbone level of the batch's images and which image each sentence belongs to.

    cells (I, C, h, w) float; image_of_sentence (S,) int64; own_hw (S, 2) int64: cells of the image's own padded size.
    """

    cells: Tensor
    image_of_sentence: Tensor
    own_hw: Tensor


def sample(fine: FineMap, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear value at x, y (S, T) in [0, 1) of each image's own padded size -> (S, T, C).

    Places are kept half a cell inside the own size, so that padding of the batch never takes part.
    """
    _, c, h, w = fine.cells.shape
    own = fine.own_hw.to(x.dtype)
    u = (x * own[:, 1:] - 0.5).clamp(min=0).minimum(own[:, 1:] - 1)
    v = (y * own[:, :1] - 0.5).clamp(min=0).minimum(own[:, :1] - 1)
    u0, v0 = u.floor(), v.floor()
    du, dv = (u - u0)[..., None], (v - v0)[..., None]
    u0, v0 = u0.long(), v0.long()
    u1 = (u0 + 1).minimum(fine.own_hw[:, 1:] - 1)
    v1 = (v0 + 1).minimum(fine.own_hw[:, :1] - 1)
    flat = fine.cells.permute(0, 2, 3, 1).reshape(-1, c)
    base = fine.image_of_sentence[:, None] * (h * w)

    def at(u: Tensor, v: Tensor) -> Tensor:
        return flat.index_select(0, (base + v * w + u).flatten()).view(*u.shape, c)

    top = at(u0, v0) * (1 - du) + at(u1, v0) * du
    bottom = at(u0, v1) * (1 - du) + at(u1, v1) * du
    return top * (1 - dv) + bottom * dv


class PointContent(nn.Module):
    """Linear map of the sampled feature, 0 at the start, so that a transferred model begins as it was."""

    def __init__(self, channels: int, d_model: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, d_model)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, fine: FineMap, x_tokens: Tensor, y_tokens: Tensor, is_y: Tensor, n_bins: int) -> Tensor:
        """Content of y tokens (S, T) whose x tokens stand before them; is_y (T,) bool; 0 elsewhere and at END."""
        finished = is_y[None] & (x_tokens < n_bins) & (y_tokens < n_bins)
        values = sample(fine, (x_tokens + 0.5) / n_bins, (y_tokens + 0.5) / n_bins)
        out: Tensor = self.project(values) * finished[..., None].to(values.dtype)
        return out
