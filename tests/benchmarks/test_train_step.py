"""The benchmark measures the same backbone with each method's own parameters."""

from dataclasses import replace

import pytest
import torch

from benchmarks.toy_sizes import TOY
from benchmarks.train_step import Shape, batch_of, contestants, measure, step

SHAPE = Shape(**TOY["train_step"])  # type: ignore[arg-type]


def test_counts() -> None:
    # Enough tokens for their saved bytes to outweigh those of the prompts.
    counts = measure(replace(SHAPE, tokens=128), rounds=1)["parts"]["step"]["figures"]
    assert counts["zero-init"]["trained parameters"] == 2 * (3 * 32 + 4)
    assert counts["AdaptionPrompt (PEFT)"]["trained parameters"] == 2 * (3 * 32 + 1)
    assert counts["floor"]["trained parameters"] == 32
    kept = {name: of["kept for backward, bytes"] for name, of in counts.items()}
    assert kept["floor"] < kept["zero-init"] < kept["AdaptionPrompt (PEFT)"]
    assert kept["zero-init"] < kept["full"]


def test_zero_init_and_adaption_prompt_are_one_function() -> None:
    models = contestants(SHAPE)
    ids = batch_of(SHAPE)["input_ids"]
    ours, theirs, floor = (
        models[name](input_ids=ids).logits
        for name in ("zero-init", "AdaptionPrompt (PEFT)", "floor")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours - floor).abs().max() > 1e-2  # the gates are open
    torch.testing.assert_close(floor, models["full"](input_ids=ids).logits)  # a shift of zero


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_contestant_learns(dtype: str) -> None:
    shape = Shape(**TOY["train_step"] | {"dtype": dtype})  # type: ignore[arg-type]
    for name, model in contestants(shape).items():
        trained = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        call = step(model, batch_of(shape))
        call()
        call()
        moved = [n for n, p in model.named_parameters() if n in trained and not p.equal(trained[n])]
        assert moved, name
        frozen = [p.grad for p in model.parameters() if not p.requires_grad]
        assert all(gradient is None for gradient in frozen), name
