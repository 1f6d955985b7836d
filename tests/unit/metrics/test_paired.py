"""Differences between two models, and how sure they are."""

import numpy as np
import pytest

from stages.metrics.paired import SampleScores, paired_difference


def scores(iou: list[float], referents: list[int], sentences: list[int] | None = None) -> SampleScores:
    return SampleScores(
        np.array(sentences if sentences is not None else range(len(iou))), np.array(referents), np.array(iou)
    )


def test_one_expression_a_referent_has_the_usual_standard_error() -> None:
    a, b = np.random.default_rng(0).random((2, 50))
    found = paired_difference(scores(list(a), list(range(50))), scores(list(b), list(range(50))))
    assert found == pytest.approx(((a - b).mean(), (a - b).std(ddof=1) / 50**0.5))


def test_the_same_expression_said_twice_makes_nothing_surer() -> None:
    rng = np.random.default_rng(1)
    a, b, referents = rng.random(30), rng.random(30), np.arange(30)
    once = paired_difference(scores(list(a), list(referents)), scores(list(b), list(referents)))
    twice = paired_difference(
        scores(list(a.repeat(2)), list(referents.repeat(2))),
        scores(list(b.repeat(2)), list(referents.repeat(2))),
    )
    assert once is not None and once == pytest.approx(twice)
    alone = paired_difference(
        scores(list(a.repeat(2)), list(range(60))), scores(list(b.repeat(2)), list(range(60)))
    )
    assert alone is not None and alone[1] is not None and once[1] is not None
    assert alone[1] < 0.75 * once[1]


def test_the_error_is_that_of_repeated_draws() -> None:
    """Referents of one to five expressions that share what makes them hard: the spread of many draws, and the error of one."""
    rng = np.random.default_rng(2)
    means, errors = [], []
    for _ in range(400):
        referents = np.repeat(np.arange(80), rng.integers(1, 6, 80))
        difference = rng.normal(0.02, 0.1, 80)[referents] + rng.normal(0, 0.05, len(referents))
        found = paired_difference(
            scores(list(difference), list(referents)), scores([0.0] * len(referents), list(referents))
        )
        assert found is not None and found[1] is not None
        means.append(found[0])
        errors.append(found[1])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_what_cannot_be_paired_has_no_difference() -> None:
    nan = float("nan")
    base = scores([0.5, 0.5, nan], [0, 0, 1])
    assert paired_difference(scores([0.75, 0.5, nan], [0, 0, 1]), base) == (0.125, None)  # one referent
    assert paired_difference(scores([nan, nan, 0.5], [0, 0, 1]), base) is None  # no mask in common
    assert paired_difference(scores([0.5, 0.5, nan], [0, 0, 1], [0, 2, 3]), base) is None  # other expressions
