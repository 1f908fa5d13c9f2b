"""Computed FLOPs and memory at this shape, against those of execution."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.data_path import Path, gradients
from benchmarks.lengths import Lengths
from benchmarks.llama7b import Shape, _steps, modes, predicted_peaks, step_flops
from benchmarks.models import open_gates, random_llama
from benchmarks.toy_sizes import TOY
from tests.allocations import peak_of
from zia_core import ZeroInitConfig, attach
from zia_core.batching import fixed_micro_batches


@pytest.mark.parametrize("adapted_layers", [1, 3])
def test_flops_of_a_step(adapted_layers: int) -> None:
    """Records one by one, without padding."""
    sizes = TOY["llama7b"] | {"layers": 3, "adapted_layers": adapted_layers, "width": 64}
    shape = Shape(**sizes)  # type: ignore[arg-type]
    of = Lengths(tokens=[9, 13, 5], labels=[4, 6, 1])
    model = attach(random_llama(shape), ZeroInitConfig(3, adapted_layers))
    open_gates(model)
    one_by_one = Path(lambda tokens: fixed_micro_batches(len(tokens), 1))
    with FlopCounterMode(display=False) as counter:
        gradients(model, one_by_one, range(3), of, shape.vocabulary)
    # Not counted: the prompts' projections, once per micro-batch; the masked half of the scores;
    # and in the backward pass the scores, which the fused kernel recomputes.
    projections = 3 * 2 * adapted_layers * 2 * 3 * 2 * 64 * 32
    squares = sum(tokens * tokens for tokens in of.tokens)
    scores = 64 * squares * (2 * shape.layers + 6 * (adapted_layers - 1))
    counted = counter.get_total_flops() - projections - scores
    assert step_flops(shape, of, range(3)) == pytest.approx(counted, rel=0.01)
    assert torch.is_grad_enabled()


def test_predicted_peaks_are_what_the_engine_takes() -> None:
    """On a CPU, by requests to torch's allocator; the weights exist before."""
    sizes = TOY["llama7b"] | {"layers": 4, "adapted_layers": 3, "width": 64, "vocabulary": 2000}
    shape = Shape(**sizes | {"dtype": "float32", "device": "cpu", "batch": 8})  # type: ignore[arg-type]
    tokens = [90, 130, 50, 70, 200, 30, 110, 60] * 2
    of = Lengths(tokens=tokens, labels=[each // 3 for each in tokens])
    predicted = predicted_peaks(shape, of, total_steps=2)
    assert predicted.keys() == {n for n, mode in modes().items() if "compile" not in mode.settings}
    assert predicted["4,096 tokens, recomputed"] < predicted["8,192 tokens"]
    model = attach(random_llama(shape), ZeroInitConfig(shape.prompt_length, 3))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    for name in ("8,192 tokens", "4,096 tokens, recomputed"):
        taken = peak_of(partial(_steps, model, shape, modes()[name], of, 2))
        assert predicted[name] - weights == pytest.approx(taken, rel=0.1), name
