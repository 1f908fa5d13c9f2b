"""The padded copies of a step's examples: their masks, labels and loss."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks import data_path
from benchmarks.data_path import IGNORED, _loss_of_all, padded
from benchmarks.lengths import Lengths
from benchmarks.models import open_gates, random_llama
from benchmarks.toy_sizes import TOY
from zia_core import ZeroInitConfig, attach
from zia_core.losses import causal_lm_loss

VOCABULARY = 64
OF = Lengths(tokens=[9, 30, 12, 40, 7], labels=[4, 10, 1, 39, 2])


@pytest.mark.parametrize("example", range(5))
def test_a_padded_example(example: int) -> None:
    tokens, labelled, width = OF.tokens[example], OF.labels[example], 48
    ids, mask, labels = padded(example, width, OF, VOCABULARY)
    prompt = tokens - labelled
    assert mask.tolist() == [1] * tokens + [0] * (width - tokens)
    assert labels.tolist() == (
        [IGNORED] * prompt + ids[prompt:tokens].tolist() + [IGNORED] * (width - tokens)
    )
    unpadded = padded(example, tokens, OF, VOCABULARY)
    for wide, narrow in zip((ids, mask, labels), unpadded, strict=True):
        assert wide[:tokens].equal(narrow)
    assert len(ids[:tokens].unique()) > 1
    assert 0 <= int(ids.min()) <= int(ids.max()) < VOCABULARY


def test_an_example_that_fills_the_width() -> None:
    _, mask, labels = padded(0, 9, OF, VOCABULARY)
    assert mask.all()
    assert int((labels != IGNORED).sum()) == 4


@pytest.fixture(scope="module")
def model() -> nn.Module:
    shape = data_path.Shape(**TOY["data_path"])  # type: ignore[arg-type]
    adapted = attach(random_llama(shape), ZeroInitConfig(3, 1)).double()
    open_gates(adapted)
    return adapted


def unpadded_losses(model: nn.Module) -> list[Tensor]:
    """The loss of each example alone, from log-probabilities and without a library's loss."""
    losses = []
    for example, (tokens, labelled) in enumerate(zip(OF.tokens, OF.labels, strict=True)):
        ids = padded(example, tokens, OF, VOCABULARY)[0]
        chances = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
        response = range(tokens - labelled, tokens)
        losses.append(-sum(chances[position - 1, ids[position]] for position in response))
    return losses


def test_the_loss_of_a_padded_batch_is_that_of_its_examples(model: nn.Module) -> None:
    batch = [padded(example, 48, OF, VOCABULARY) for example in range(5)]
    ids, _, labels = map(torch.stack, zip(*batch, strict=True))
    expected = torch.stack(unpadded_losses(model)).sum()
    for found in (_loss_of_all(model, ids, labels), causal_lm_loss(model, ids, None, labels)[0]):
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_gradients_of_a_step_are_those_of_its_examples(model: nn.Module) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    mean = torch.stack(unpadded_losses(model)).sum() / sum(OF.labels)
    expected = torch.autograd.grad(mean, trained)
    shape = data_path.Shape(**TOY["data_path"])  # type: ignore[arg-type]
    for path in data_path.paths(shape).values():
        model.zero_grad()
        data_path.gradients(model, path, range(5), OF, VOCABULARY)
        found = [parameter.grad for parameter in trained]
        torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-12)
