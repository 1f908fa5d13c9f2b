"""How a model without prompts is shown an image: one token in front of the words."""

from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from experiments.language.examples import with_image_token
from experiments.language.losses import batch_logits, batch_losses
from experiments.language.methods import prepare
from experiments.language.multimodal import generate
from experiments.language.settings import ImageTextSettings
from tests.zia_core.reads import Reads
from zia_core import visual_projection
from zia_core.losses import causal_lm_losses, label_index
from zia_core.padding import Padding, padding_known

SETTINGS = ImageTextSettings(depths=(1, 2), bottleneck=4, lora_dropout=0.0)
WIDTH = 5


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    bare = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    model = prepare(bare, "lora", SETTINGS, WIDTH)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * (1 if "visual" in name else 0.2))
    return model.double().eval()


def batch(has_image: list[bool]) -> dict[str, torch.Tensor]:
    rows = len(has_image)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (rows, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    labels = ids.clone()
    labels[:, :3] = -100
    labels[mask == 0] = -100
    features = torch.randn(rows, 2 * WIDTH, generator=generator).double()
    return {
        "input_ids": ids, "attention_mask": mask, "labels": labels, "features": features,
        "has_image": torch.tensor(has_image),
    }  # fmt: skip


def test_the_image_is_the_first_embedding(model: Any) -> None:
    """Against one sample at a time, whose embeddings are put together by hand."""
    given = batch([True, False, True])
    logits, labels = batch_logits(model, given)
    assert torch.equal(labels, given["labels"][given["labels"] != -100])
    projection = visual_projection(model)
    assert projection is not None
    expected = []
    for row in range(3):
        length = int(given["attention_mask"][row].sum())
        words = model.get_input_embeddings()(given["input_ids"][row : row + 1, :length])
        if given["has_image"][row]:
            words = torch.cat([projection(given["features"][row : row + 1])[:, None], words], 1)
        out = model(inputs_embeds=words).logits[0]
        expected.append(out[-length:][2 : length - 1])
    # LLaMA's norm and rotary embedding are float32, and padded samples are at other positions.
    torch.testing.assert_close(logits, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_what_a_batch_knows_of_itself_is_not_asked_for(model: Any) -> None:
    """Where the labels are, and the mask with the image's place: the same numbers, unasked."""
    given = batch([True, False, True])
    mask = with_image_token(given["has_image"], given["attention_mask"])
    known = {"label_index": label_index(given["labels"]), "image_attention_mask": mask}
    expected = batch_losses(model, given)
    reads = Reads()
    with padding_known({mask.shape: Padding.ANYWHERE}), reads:
        found = batch_losses(model, given | known)
    assert reads.found == []
    assert torch.equal(found, expected)


def test_without_an_image_it_is_text(model: Any) -> None:
    given = batch([False, False])
    words = {name: given[name] for name in ("input_ids", "attention_mask", "labels")}
    torch.testing.assert_close(batch_losses(model, given), causal_lm_losses(model, **words))
    batch_losses(model, given).sum().backward()
    projection = visual_projection(model)
    assert projection is not None
    for parameter in projection.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_cached_generation_is_uncached(model: Any) -> None:
    """Left-padded, mixed, against whole passes of one sample."""
    given = batch([True, False, True])
    ids, mask = given["input_ids"].clone(), torch.ones(3, 7, dtype=torch.int64)
    mask[0, :3], mask[1, :2] = 0, 0
    prompts = {
        "input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask,
        "features": given["features"], "has_image": given["has_image"],
    }  # fmt: skip
    config = GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0)
    found = generate(model, prompts, config)
    projection = visual_projection(model)
    assert projection is not None
    for row in range(3):
        words = ids[row : row + 1, mask[row].bool()]
        for step in range(4):
            embedded = model.get_input_embeddings()(words)
            if given["has_image"][row]:
                image = projection(given["features"][row : row + 1])[:, None]
                embedded = torch.cat([image, embedded], 1)
            following = model(inputs_embeds=embedded, use_cache=False).logits[:, -1].argmax(-1)
            assert following.item() == found[row, step]
            words = torch.cat([words, following[:, None]], 1)
