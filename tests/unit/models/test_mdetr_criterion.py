"""Matching and losses of the detector: optimal, blind to the order of queries and targets, and what the formulas say."""

from __future__ import annotations

import itertools

import pytest
import torch
from golden_checks.released import cardinality_error, positive_tokens, token_span, weighted_sum

from stages.models.detection_boxes import centre_to_corners, corners_to_centre, giou
from stages.models.matcher import MatchCosts, match, match_cost
from stages.models.mdetr_criterion import (
    DetectionTargets,
    LayerOutputs,
    LossWeights,
    dice_mask_loss,
    focal_mask_loss,
    layer_losses,
    pixel_cross_entropy,
    single_class_map,
    soft_token_loss,
)

COUNTS = (2, 0, 3, 1)  # targets a row
Q, V, L, C = 4, 5, 6, 8


def boxes(*shape: int) -> torch.Tensor:
    return torch.cat((torch.rand(*shape, 2) * 0.6 + 0.2, torch.rand(*shape, 2) * 0.3 + 0.05), -1)


def problem(
    counts: tuple[int, ...] = COUNTS, seed: int = 0
) -> tuple[LayerOutputs, torch.Tensor, DetectionTargets]:
    """Outputs of one layer, words and targets; row i has counts[i] targets."""
    torch.manual_seed(seed)
    s, n = len(counts), sum(counts)
    outputs = LayerOutputs(
        torch.randn(s, Q, V),
        boxes(s, Q),
        torch.nn.functional.normalize(torch.randn(s, Q, C), dim=-1),
        torch.randn(s, Q, 1),
    )
    words = torch.nn.functional.normalize(torch.randn(s, L, C), dim=-1)
    positive = torch.rand(n, V - 1).softmax(-1)
    targets = DetectionTargets(
        torch.repeat_interleave(torch.arange(s), torch.tensor(counts)), boxes(n),
        torch.nn.functional.pad(positive, (0, 1)), torch.rand(n, L) > 0.5, (torch.rand(n) > 0.5).float(),
    )  # fmt: skip
    return outputs, words, targets


def total(outputs: LayerOutputs, words: torch.Tensor, targets: DetectionTargets) -> torch.Tensor:
    terms, _ = layer_losses(outputs, words, targets, LossWeights(), MatchCosts(), float(len(targets.row)))
    assert set(terms) == {"tokens", "l1", "giou", "align", "final"}
    return weighted_sum(terms, LossWeights())


@pytest.mark.parametrize("seed", range(5))
def test_no_assignment_is_cheaper(seed: int) -> None:
    outputs, _, t = problem(seed=seed)
    found = match(outputs.logits, outputs.boxes, t.row, t.positive_map, t.boxes)
    cost = match_cost(outputs.logits, outputs.boxes, t.row, t.positive_map, t.boxes, MatchCosts())
    assert sorted(found.target.tolist()) == list(range(len(t.row)))
    assert torch.equal(t.row[found.target], found.row)
    for i in range(len(COUNTS)):
        mine = (t.row == i).nonzero()[:, 0].tolist()
        chosen = sum(
            float(cost[k, q])
            for k, q, r in zip(found.target, found.query, found.row, strict=True)
            if int(r) == i
        )
        best = min(
            sum(float(cost[k, q]) for k, q in zip(mine, queries, strict=True))
            for queries in itertools.permutations(range(Q), len(mine))
        )
        assert chosen == pytest.approx(best, abs=1e-5)


def test_one_target_a_row_takes_the_short_way_to_the_same_answer() -> None:
    outputs, _, t = problem((1, 1, 1, 1))
    short = match(outputs.logits, outputs.boxes, t.row, t.positive_map, t.boxes)
    for i in range(4):  # each row alone, with an empty row beside it, goes through the general solver
        logits, found_boxes = (
            torch.cat((outputs.logits[i : i + 1],) * 2),
            torch.cat((outputs.boxes[i : i + 1],) * 2),
        )
        one = match(logits, found_boxes, t.row[:1] * 0, t.positive_map[i : i + 1], t.boxes[i : i + 1])
        assert one.query.tolist() == [int(short.query[i])]


def test_order_of_queries_and_targets_does_not_matter() -> None:
    outputs, words, t = problem()
    assert (
        outputs.aligned is not None
        and outputs.is_final is not None
        and t.positive_tokens is not None
        and t.is_final is not None
    )
    want = total(outputs, words, t)
    order = torch.randperm(Q)
    shuffled = LayerOutputs(
        outputs.logits[:, order],
        outputs.boxes[:, order],
        outputs.aligned[:, order],
        outputs.is_final[:, order],
    )
    assert torch.allclose(total(shuffled, words, t), want, atol=1e-5)
    swap = torch.tensor([1, 0, 3, 4, 2, 5])  # inside the rows of 2, 3 and 1 targets
    others = DetectionTargets(
        t.row, t.boxes[swap], t.positive_map[swap], t.positive_tokens[swap], t.is_final[swap]
    )
    assert torch.allclose(total(outputs, words, others), want, atol=1e-5)


def test_rows_add_up() -> None:
    outputs, words, t = problem((1, 1, 1))
    assert (
        outputs.aligned is not None
        and outputs.is_final is not None
        and t.positive_tokens is not None
        and t.is_final is not None
    )
    alone = []
    for i in range(3):
        row = slice(i, i + 1)
        one = LayerOutputs(
            outputs.logits[row], outputs.boxes[row], outputs.aligned[row], outputs.is_final[row]
        )
        target = DetectionTargets(
            t.row[row] * 0, t.boxes[row], t.positive_map[row], t.positive_tokens[row], t.is_final[row]
        )
        alone.append(total(one, words[row], target))
    assert torch.allclose(torch.stack(alone).mean(), total(outputs, words, t), atol=1e-5)


def test_perfect_boxes_cost_nothing_and_no_object_weighs_a_tenth() -> None:
    outputs, _, t = problem((1, 1))
    outputs.boxes[:, 2] = t.boxes
    outputs.logits[:] = 0
    terms, matches = layer_losses(outputs, None, t, LossWeights(), MatchCosts(tokens=0), 2.0)
    assert matches.query.tolist() == [2, 2]
    assert float(terms["l1"]) == 0 and float(terms["giou"]) == pytest.approx(0, abs=1e-6)
    uniform = torch.log(torch.tensor(float(V)))
    assert float(terms["tokens"]) == pytest.approx(float(uniform * (1 + 0.1 * (Q - 1))), rel=1e-5)
    single = soft_token_loss(torch.zeros(2, Q, 2), matches, single_class_map(2, torch.device("cpu")), 2.0)
    assert float(single) == pytest.approx(0.6931472 * (1 + 0.1 * (Q - 1)), rel=1e-5)


def test_boxes_and_their_overlap() -> None:
    b = boxes(7)
    corners = centre_to_corners(b)
    assert torch.allclose(corners_to_centre(corners), b, atol=1e-6)
    table = giou(corners[:, None], corners[None])
    assert torch.allclose(table, table.T) and torch.allclose(table.diagonal(), torch.ones(7))
    left, right = torch.tensor([0.0, 0, 1, 1]), torch.tensor([3.0, 0, 4, 1])
    assert float(giou(left, right)) == pytest.approx(
        -2 / 4
    )  # nothing shared, half of the enclosing box is empty
    assert bool(giou(torch.zeros(4), torch.zeros(4)).isfinite())


def test_cardinality_counts_queries_that_see_something() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[..., -1] = 1
    logits[0, :2, 0] = 5
    assert float(cardinality_error(logits, torch.tensor([0, 1, 1]))) == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize("loss", [focal_mask_loss, dice_mask_loss, pixel_cross_entropy])
def test_padding_counts_for_no_mask_loss(loss: object) -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(3, 20), (torch.rand(3, 20) > 0.5).float()
    valid = torch.zeros(3, 26, dtype=torch.bool)
    valid[:, :20] = True
    wide = torch.nn.functional.pad(logits, (0, 6), value=9.0), torch.nn.functional.pad(truth, (0, 6))
    assert torch.allclose(loss(*wide, valid), loss(logits, truth), atol=1e-6)  # type: ignore[operator]
    perfect = loss((truth - 0.5) * 60, truth)  # type: ignore[operator]
    assert perfect.shape == (3,) and float(perfect.max()) < 1e-4


def test_spans_become_tokens() -> None:
    table = [1, 1, None, 2, 2, None, 3]  # "an ox is"-like: blanks map to nothing
    assert token_span(table, 0, 2) == (1, 1)
    assert token_span(table, 2, 6) == (2, 2)  # begins and ends on a blank
    assert token_span(table, 0, 7) == (1, 3)
    assert token_span([None] * 4, 0, 4) is None
    assert token_span(table, 2, 5, [None, None, None, 7]) == (
        7,
        2,
    )  # the release looks further in another sentence
    marked = positive_tokens([[(0, 2), (6, 7)], [(3, 5)]], [0, 0], [table], 5)
    assert marked.int().tolist() == [[0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]
