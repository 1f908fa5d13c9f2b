"""Contestants compute the same function where they should, with open gates."""

import pytest
import torch

from benchmarks import attention_core, data_path, decode, encoders, trunk_reuse
from benchmarks.lengths import Lengths
from benchmarks.models import open_gates, random_llama
from benchmarks.toy_sizes import TOY
from zia_core import ZeroInitConfig, attach, zero_init_layers

CORE = attention_core.Shape(**TOY["attention_core"])  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", [attention_core.core, attention_core.layers])
def test_forms_of_the_attention_agree(scope) -> None:  # type: ignore[no-untyped-def]
    contestants = scope(CORE)
    expected = contestants["reference concatenation"]
    gradients = torch.autograd.grad(expected.forward().square().sum(), expected.trained)
    assert (expected.forward() - contestants["plain attention"].forward()).abs().max() > 1e-3
    for name, contestant in contestants.items():
        if name == "plain attention":
            continue
        out = contestant.forward()
        torch.testing.assert_close(out, expected.forward(), rtol=1e-4, atol=1e-6)
        found = torch.autograd.grad(out.square().sum(), contestant.trained)
        # The words' gradients come first; PEFT's prompts and gates have other shapes.
        words = 3 if scope is attention_core.core else 1
        for own, reference in zip(found[:words], gradients[:words], strict=True):
            torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-6)


def test_bytes_of_the_core_are_exact() -> None:
    """All save the words; ours adds the weights [B, H, T, K] once, and the prompts' tensors."""
    shape = attention_core.Shape(batch=2, heads=2, tokens=256, head_dim=16, prompt_length=3)
    counts = attention_core.measure(shape, 1)["parts"]["core, forward and backward"]["figures"]
    kept = {name: of["kept for backward, bytes"] for name, of in counts.items()}
    B, H, T, D, K = 2, 2, 256, 16, 3
    words, row = 4 * B * H * T * D, 4 * B * H * T
    assert kept["plain attention"] == 4 * words + row  # q, k, v, out; one log-sum-exp per row
    small = kept["zero-init"] - kept["plain attention"] - 4 * B * H * T * K
    assert 0 < small < 4 * 8 * K * H * D
    assert kept["reference concatenation"] > 2 * 4 * B * H * T * (T + K)


def test_generations_are_the_same_text() -> None:
    shape = decode.Shape(**TOY["decode"])  # type: ignore[arg-type]
    texts = {name: decode.generate(m, shape) for name, m in decode.contestants(shape).items()}
    assert texts["zero-init"].shape == (2, 10)
    assert texts["zero-init"].equal(texts["AdaptionPrompt (PEFT)"])
    assert not texts["zero-init"].equal(texts["backbone"])


@pytest.mark.parametrize("build", [encoders.vit, encoders.roberta])
def test_encoders_share_a_backbone(build) -> None:  # type: ignore[no-untyped-def]
    encoder = build(encoders.Shape(**TOY["encoders"]))  # type: ignore[arg-type]
    backbone, ours, peer = encoder.models
    assert backbone == "backbone"
    before = encoder.loss(encoder.models[ours])
    assert before != encoder.loss(encoder.models[backbone]) != encoder.loss(encoder.models[peer])
    for layer in zero_init_layers(encoder.models[ours]):
        layer.gate.data.zero_()
    assert encoder.loss(encoder.models[ours]).equal(encoder.loss(encoder.models[backbone]))


@pytest.mark.parametrize("layers", [1, 3])
def test_logits_from_the_trunk_are_the_models(layers: int) -> None:
    shape = trunk_reuse.Shape(**TOY["trunk_reuse"])  # type: ignore[arg-type]
    model, below = trunk_reuse.adapted(shape, layers)
    batch = trunk_reuse.images(shape)
    assert below.depth == 3 - layers
    features = below.features(model, batch, shape.images)
    torch.testing.assert_close(below.logits(model, features), model(batch), rtol=0, atol=0)


OF = Lengths(tokens=[9, 30, 12, 12, 40, 7, 21, 9], labels=[4, 10, 5, 2, 30, 1, 11, 3])


def test_ways_to_pad_give_the_same_gradients() -> None:
    shape = data_path.Shape(**TOY["data_path"])  # type: ignore[arg-type]
    model = attach(random_llama(shape), ZeroInitConfig(3, 1)).double()
    open_gates(model)
    found = {}
    for name, path in data_path.paths(shape).items():
        model.zero_grad()
        data_path.gradients(model, path, range(8), OF, shape.vocabulary)
        found[name] = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    expected = found.pop(data_path.BASE)
    assert len(expected) == 2
    assert min(gradient.abs().max() for gradient in expected) > 1e-6
    for gradients in found.values():
        torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-12)


def test_an_epoch_is_counted_exactly() -> None:
    """Eight examples, one step: by hand."""
    shape = data_path.Shape(**TOY["data_path"])  # type: ignore[arg-type]
    counts = data_path.counted(shape, OF)
    assert counts["padded to 512"]["tokens computed"] == 8 * 512
    assert counts["padded to 512"]["tokens with logits"] == 8 * 512
    assert counts["padded to 512"]["over the real ones"] == 8 * 512 / 140
    ours = counts[data_path.BASE]
    assert ours["tokens with logits"] == sum(OF.labels)
    # [40, 30, 21] and [12, 12, 9, 9, 7]: a third micro-batch would cost more than it saves.
    assert (ours["micro-batches"], ours["tokens computed"]) == (2, 3 * 40 + 5 * 12)
