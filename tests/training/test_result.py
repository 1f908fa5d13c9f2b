"""The two ends of a loss curve."""

import pytest

from experiments.training.result import loss_ends


def test_ends_are_means_over_a_tenth_of_the_steps() -> None:
    assert loss_ends([]) == (None, None)
    assert loss_ends([3.0]) == (3.0, 3.0)
    assert loss_ends([float(i) for i in range(19)]) == (0.0, 18.0)
    assert loss_ends([float(i) for i in range(30)]) == pytest.approx((1.0, 28.0))
