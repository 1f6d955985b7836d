"""Which query answers for which target: the assignment of least total cost (METHOD.md section 5).

Letters: S rows (sentences), Q queries a row, N targets of all rows together, V soft-token classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.models.detection_boxes import centre_to_corners, giou
from stages.models.to_device import to_device


@dataclass(frozen=True)
class MatchCosts:
    """Weights of the three terms of the cost."""

    tokens: float = 1.0
    l1: float = 5.0
    giou: float = 2.0


@dataclass(frozen=True)
class Matches:
    """K matched pairs: row (K,), query (K,) and target (K,) int64, ordered by row, then by query."""

    row: Tensor
    query: Tensor
    target: Tensor


def match_cost(
    logits: Tensor, boxes: Tensor, row: Tensor, positive_map: Tensor, target_boxes: Tensor, costs: MatchCosts
) -> Tensor:
    """(N, Q) cost of giving each target to each query of its own row.

    Args:
        logits: (S, Q, V) float; boxes: (S, Q, 4) cxcywh in [0, 1].
        row: (N,) int64 row of each target; positive_map: (N, V) its soft tokens; target_boxes: (N, 4) cxcywh.
    """
    probability = logits.float().softmax(-1)[row]  # (N, Q, V)
    tokens = -(probability * positive_map[:, None]).sum(-1)
    predicted, wanted = boxes.float()[row], target_boxes.float()[:, None]
    l1 = (predicted - wanted).abs().sum(-1)
    overlap = giou(centre_to_corners(predicted), centre_to_corners(wanted))
    return costs.tokens * tokens + costs.l1 * l1 - costs.giou * overlap


@torch.no_grad()
def match(
    logits: Tensor,
    boxes: Tensor,
    row: Tensor,
    positive_map: Tensor,
    target_boxes: Tensor,
    costs: MatchCosts | None = None,
) -> Matches:
    """Hungarian matching within each row. Arguments as in `match_cost`; `row` must be sorted, and best lies on the host.

    Where every row has exactly one target the answer is each row's cheapest query, found without leaving the device.
    """
    s, n = len(logits), len(row)
    counts = torch.bincount(row.cpu(), minlength=s)
    row = to_device(row, logits.device)
    cost = match_cost(logits, boxes, row, positive_map, target_boxes, costs or MatchCosts())
    if n == s and bool((counts == 1).all()):
        return Matches(row, cost.argmin(1), torch.arange(n, device=row.device))
    # a second of imports that one target a sentence never needs
    from scipy.optimize import linear_sum_assignment

    rows, queries, targets, first = [], [], [], 0
    table = cost.cpu().numpy()
    for i, count in enumerate(counts.tolist()):
        query, target = linear_sum_assignment(table[first : first + count].T)
        rows += [i] * len(query)
        queries += query.tolist()
        targets += (target + first).tolist()
        first += count
    found = (torch.tensor(v, dtype=torch.long) for v in (rows, queries, targets))
    return Matches(*(to_device(v, row.device) for v in found))
