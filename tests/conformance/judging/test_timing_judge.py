from __future__ import annotations

import math
import random

import pytest
from judging_samples import recording
from m0_conformance.judging.finding import Status
from m0_conformance.judging.timing import quantile, within


def test_bounds_hold_the_true_quantile_as_often_as_promised() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(400):
        found = quantile([rng.random() for _ in range(60)], 0.5)
        hits += found.low <= 0.5 <= found.high
    assert hits >= 372  # 95 % promised; 93 % leaves room for chance


def test_a_small_sample_leaves_a_high_quantile_unbounded() -> None:
    found = quantile([1.0] * 20, 0.99)
    assert math.isinf(found.high)
    assert found.low == 1.0 or math.isinf(found.low)


@pytest.mark.parametrize(
    ("samples", "status"),
    [
        ([0.001] * 40, Status.PASS),
        ([0.5] * 40, Status.FAIL),
        ([0.005, 0.02] * 20, Status.INCONCLUSIVE),
        ([0.001] * 19, Status.INCONCLUSIVE),
    ],
)
def test_three_verdicts(samples: list[float], status: Status) -> None:
    check = recording()
    check.samples["health"] = samples
    finding = within(check, "health", q=0.5, limit=0.01)
    assert finding is not None
    assert finding.status is status


def test_scale_and_floor_widen_the_limit() -> None:
    check = recording()
    check.samples["health"] = [0.015] * 40
    check.settings["timing_scale"] = 2.0
    finding = within(check, "health", q=0.5, limit=0.01)
    assert finding is not None
    assert finding.status is Status.PASS


def test_no_samples_no_finding() -> None:
    assert within(recording(), "health", q=0.5, limit=1.0) is None
    with pytest.raises(ValueError, match="samples"):
        quantile([], 0.5)
