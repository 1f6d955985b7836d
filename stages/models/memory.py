"""What the encoder hands to the decoder: image cells of one sentence, then optional text tokens."""

from dataclasses import dataclass

from torch import Tensor

from stages.models.point_content import FineMap


@dataclass
class Memory:
    """Encoder output of S sentences. H x W is the batch's grid; each image fills its own top-left part.

    Attributes:
        tokens: (S, M, D) float; the first H*W are image cells, row by row, the rest text.
        mask: (S, M) bool, True = valid.
        positions: (S, M, D) float, zero for text tokens.
        grid_hw: (H, W) of the batch.
        own_cells_hw: (S, 2) int64, cells of the image's own padded size (token coordinates refer to it).
        valid_cells_hw: (S, 2) int64, cells that contain image pixels.
        all_valid: no padding anywhere, so attention needs no mask.
        fine: finer map that finished points look up, when the model uses it.
    """

    tokens: Tensor
    mask: Tensor
    positions: Tensor
    grid_hw: tuple[int, int]
    own_cells_hw: Tensor
    valid_cells_hw: Tensor
    all_valid: bool
    fine: FineMap | None = None
