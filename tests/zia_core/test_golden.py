"""Agreement with the saved inputs, weights, logits, loss and gradients of a reference.

Its layout is the original LLaMA one: interleaved rotary pairs, prompts of all layers in one
embedding, a gate [1, H, 1, 1] in every layer.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from zia_core import ZeroInitConfig, attach, zero_init_layers


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows of a q or k projection from interleaved rotary pairs to two halves."""
    rows, width = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, width)
    return pairs.transpose(1, 2).reshape(rows, width)


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared_dir / "golden" / "reference_llama_adapter.npz"))


def load(golden: dict[str, np.ndarray]) -> LlamaForCausalLM:
    sizes = json.loads(str(golden["config"]))
    heads, layers = sizes["n_heads"], sizes["n_layers"]
    weights = {
        key.removeprefix("weights/"): torch.from_numpy(value)
        for key, value in golden.items()
        if key.startswith("weights/")
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=sizes["vocab_size"],
            hidden_size=sizes["dim"],
            intermediate_size=sizes["ffn_hidden"],
            num_hidden_layers=layers,
            num_attention_heads=heads,
            rms_norm_eps=sizes["norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_theta"]},
            pad_token_id=None,
        )
    )
    attach(model, ZeroInitConfig(sizes["adapter_len"], sizes["adapter_layer"]))
    state = {
        "model.embed_tokens.weight": weights["tok_embeddings.weight"],
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": weights["output.weight"],
    }
    prompts = weights["adapter_query.weight"].view(sizes["adapter_layer"], -1, sizes["dim"])
    first = layers - sizes["adapter_layer"]
    for i in range(layers):
        source, target = f"layers.{i}", f"model.layers.{i}"
        attention, ffn = f"{source}.attention", f"{source}.feed_forward"
        state |= {
            f"{target}.self_attn.q_proj.weight": half_split(
                weights[f"{attention}.wq.weight"], heads
            ),
            f"{target}.self_attn.k_proj.weight": half_split(
                weights[f"{attention}.wk.weight"], heads
            ),
            f"{target}.self_attn.v_proj.weight": weights[f"{attention}.wv.weight"],
            f"{target}.self_attn.o_proj.weight": weights[f"{attention}.wo.weight"],
            f"{target}.mlp.gate_proj.weight": weights[f"{ffn}.w1.weight"],
            f"{target}.mlp.down_proj.weight": weights[f"{ffn}.w2.weight"],
            f"{target}.mlp.up_proj.weight": weights[f"{ffn}.w3.weight"],
            f"{target}.input_layernorm.weight": weights[f"{source}.attention_norm.weight"],
            f"{target}.post_attention_layernorm.weight": weights[f"{source}.ffn_norm.weight"],
        }
        if i >= first:
            state[f"{target}.self_attn.zero_init.prompt"] = prompts[i - first]
            state[f"{target}.self_attn.zero_init.gate"] = weights[f"{attention}.gate"].flatten()
    model.load_state_dict(state, strict=True)
    return model


def close(ours: Tensor, reference: np.ndarray) -> None:
    """Compare to 1e-5 of the reference's largest value, in float32."""
    expected = torch.from_numpy(reference)
    error = (ours - expected).abs().max() / expected.abs().max()
    assert error < 1e-5, f"relative error {error:.2e}"


def test_logits_loss_and_gradients(golden: dict[str, np.ndarray]) -> None:
    model = load(golden)
    gates = torch.stack([layer.gate for layer in zero_init_layers(model)])
    assert gates.abs().min() > 0  # a zero gate would hide every error
    logits = model(input_ids=torch.from_numpy(golden["examples"])).logits
    close(logits, golden["logits"])
    labels = torch.from_numpy(golden["labels"])
    # The released code masks with token 0; ours never does.
    loss = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=0
    )
    close(loss, golden["loss"])
    loss.backward()
    layers = zero_init_layers(model)
    close(torch.cat([layer.prompt.grad for layer in layers]), golden["grad/adapter_query.weight"])
    for i, layer in enumerate(layers, start=1):
        close(layer.gate.grad, golden[f"grad/layers.{i}.attention.gate"].flatten())
