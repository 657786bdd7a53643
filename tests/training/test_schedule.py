"""The learning rate rises, stays, and falls as it should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.training.schedule import learning_rate_factor


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1), (599, 1), (600, 0.1), (799, 0.1), (800, 0.01), (999, 0.01)]
)
def test_it_falls_tenfold_at_60_and_80_percent(step: int, factor: float) -> None:
    assert learning_rate_factor(step, 1000) == pytest.approx(factor)


@pytest.mark.parametrize(("step", "factor"), [(0, 1), (499, 1), (500, 0.5), (999, 0.5)])
def test_it_can_be_halved_at_half(step: int, factor: float) -> None:
    assert learning_rate_factor(step, 1000, decay="halved") == pytest.approx(factor)


def test_it_rises_in_equal_steps_to_1() -> None:
    rise = [learning_rate_factor(step, 1000, warmup=4) for step in range(6)]
    assert rise == [0.25, 0.5, 0.75, 1, 1, 1]


@given(st.integers(1, 10**6), st.data())
def test_it_is_never_0_and_never_above_1(steps: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    warmup = data.draw(st.integers(0, steps))
    assert 0 < learning_rate_factor(step, steps, warmup=warmup) <= 1
