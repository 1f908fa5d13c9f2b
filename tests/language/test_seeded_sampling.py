"""Noise and the largest score are a draw from the softmax, the same for every row."""

import pytest
import torch

from experiments.harness.chat import Decoding
from experiments.language.seeded_sampling import processors

SCORES = torch.tensor([[2.0, 1.0, 0.0, -1.0, -5.0]])
IDS = torch.zeros(1, 1, dtype=torch.int64)


def draws(decoding: Decoding, number: int) -> torch.Tensor:
    change = processors(decoding)
    return torch.tensor([int(change(IDS, SCORES.clone()).argmax()) for _ in range(number)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    number = 4000
    found = draws(Decoding(temperature=temperature), number).bincount(minlength=5) / number
    expected = (SCORES[0] / temperature).softmax(0)
    error = (expected * (1 - expected) / number).sqrt()
    assert ((found - expected).abs() < 4 * error).all()


def test_top_k_and_top_p_leave_out_the_rest() -> None:
    assert set(draws(Decoding(temperature=5.0, top_k=2), 200).tolist()) == {0, 1}
    # Probabilities 0.64, 0.24, 0.09, ...: two of them reach 0.8.
    assert set(draws(Decoding(temperature=1.0, top_p=0.8), 200).tolist()) == {0, 1}
    assert set(draws(Decoding(temperature=5.0), 200).tolist()) == {0, 1, 2, 3, 4}


def test_greedy_changes_nothing() -> None:
    assert len(processors(Decoding(seed=5))) == 0


def test_a_row_draws_as_it_does_alone() -> None:
    other = torch.tensor([[0.0, 0.0, 3.0, 0.0, 0.0]])
    alone, both = (processors(Decoding(temperature=1.0, seed=3)) for _ in range(2))
    for _ in range(20):
        expected = alone(IDS, SCORES.clone())
        found = both(IDS.expand(2, 1), torch.cat([other, SCORES]))
        assert torch.equal(found[1:], expected)
