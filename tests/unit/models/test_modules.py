"""CCTF, PMCA, losses and positions against their formulas written out."""

from __future__ import annotations

import pytest
import torch

from stages.models.cctf import memory_content, memory_content_release
from stages.models.losses import neighbour_targets, token_sums
from stages.models.memory import Memory
from stages.models.pmca import CellAxes, PointModulation


def memory(
    h: int = 3, w: int = 5, own: tuple[int, int] = (2, 4), used: tuple[int, int] = (2, 3), d: int = 8
) -> Memory:
    """One sentence whose image fills the top-left of an h x w grid; one text token follows."""
    torch.manual_seed(0)
    mask = torch.zeros(1, h, w, dtype=torch.bool)
    mask[:, : used[0], : used[1]] = True
    mask = torch.cat((mask.flatten(1), torch.ones(1, 1, dtype=torch.bool)), 1)
    tokens = torch.randn(1, h * w + 1, d)
    return Memory(
        tokens, mask, torch.zeros_like(tokens), (h, w), torch.tensor([own]), torch.tensor([used]), False
    )


def test_content_is_the_mean_of_the_valid_cells_of_the_column_or_row() -> None:
    m = memory()
    cells = m.tokens[0, :15].view(3, 5, 8)
    content = memory_content(m, 10)
    tokens = torch.tensor([[7, 7, 10, 0]])
    found = content.look_up(tokens, torch.tensor([0, 1, 0, -1]))[0]
    assert torch.allclose(found[0], cells[:2, 2].mean(0))  # x: column floor(0.7 * 4) = 2 of valid rows
    assert torch.allclose(found[1], cells[1, :3].mean(0))  # y: row floor(0.7 * 2) = 1 of valid columns
    assert not found[2].any()  # END
    assert not found[3].any()  # no coordinate


def test_release_content_exchanges_the_axes_and_averages_padding() -> None:
    m = memory()
    cells = m.tokens[0, :15].view(3, 5, 8)
    content = memory_content_release(m, 1000)
    found = content.look_up(torch.tensor([[600, 600, 1000]]), torch.tensor([0, 1, 1]))[0]
    assert torch.allclose(found[0], cells[int(0.6 * 2)].mean(0))
    assert torch.allclose(found[1], cells[:, int(0.6 * 4)].mean(0))
    assert torch.allclose(found[2], cells[:, 4].mean(0))


def test_point_modulation_is_its_formula() -> None:
    m = memory()
    torch.manual_seed(1)
    point = PointModulation(8, 2)
    state = torch.randn(1, 4, 8)
    bias = point(state, CellAxes.of(m))
    raw = point.mlp(state)[0]
    assert bias.shape == (1, 2, 4, 16)
    assert not bias[..., 15].any()
    for head in range(2):
        for t in range(4):
            px, py = raw[t, 2 * head : 2 * head + 2].sigmoid() * torch.tensor([3.0, 2.0])
            sx, sy = raw[t, 4 + 2 * head : 4 + 2 * head + 2]
            for v in range(3):
                for u in range(5):
                    want = -(sx**2 * (px - (u + 0.5)) ** 2 + sy**2 * (py - (v + 0.5)) ** 2) / 8
                    assert bias[0, head, t, v * 5 + u].item() == pytest.approx(want.item(), abs=1e-5)


def test_point_modulation_learns_from_its_start() -> None:
    """A zero start would kill it: bias ~ s^2 has zero gradient at s = 0 (METHOD.md section 4.2)."""
    point = PointModulation(8, 2)
    point(torch.randn(1, 4, 8), CellAxes.of(memory())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in point.parameters())


def test_token_loss_is_smoothed_cross_entropy_over_trained_slots() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 6), torch.randint(0, 6, (2, 3))
    weights = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]])
    want = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1, reduction="none"
    )
    want = (want.view(2, 3) * weights).sum() / weights.sum()
    assert token_sums(logits, targets, weights).mean().item() == pytest.approx(want.item(), rel=1e-6)
    logits2 = logits.clone()
    logits2[0, 2] += 100 * torch.randn(6)
    assert token_sums(logits2, targets, weights).mean().item() == pytest.approx(want.item(), rel=1e-6)
    assert token_sums(logits, targets, torch.zeros(2, 3)).mean().item() == 0


def test_neighbours_share_a_coordinate_but_never_end() -> None:
    table = neighbour_targets(11, 1.0, torch.device("cpu"))
    assert torch.allclose(table.sum(-1), torch.ones(11))
    assert table[4].argmax() == 4
    assert table[4, 3] == table[4, 5] > table[4, 6] > 0
    assert not table[:10, 10].any()
    assert table[10].tolist() == [0.0] * 10 + [1.0]
