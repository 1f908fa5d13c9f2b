"""Costs at real shapes: FLOPs, bytes saved for backward, parameters, file size."""

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from zia_core import ZeroInitConfig, adapter_state_dict, attach, baselines
from zia_core.attention import prompt_term
from zia_core.layer import Geometry, ZeroInit
from zia_core.memory import bytes_kept_for_backward

LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}


def llama_7b() -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**LLAMA_7B))


def forward_flops(model: nn.Module, tokens: int = 512) -> int:
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    return counter.get_total_flops()


def test_forward_flops_at_7b_shape() -> None:
    """Per adapted layer: prompts through W_k and W_v, 2*K*C*2C, and two products of 2*T*K*C."""
    model = llama_7b()
    base = forward_flops(model)
    adapted = forward_flops(attach(model, ZeroInitConfig()))
    K, C, T, L = 10, 4096, 512, 30
    assert adapted - base == L * (2 * K * C * 2 * C + 2 * 2 * T * K * C)
    assert (adapted - base) / base < 0.005  # 0.33 %; PEFT's AdaptionPrompt: 22.7 %
    assert base == pytest.approx(6.903e12, rel=1e-3)


def test_forward_flops_of_peft_at_7b_shape() -> None:
    """AdaptionPrompt repeats the q, v and o projections: 3 of a layer's about 12 C^2."""
    model = llama_7b()
    base = forward_flops(model)
    theirs = forward_flops(baselines.adaption_prompt(model, 10, 30))
    assert (theirs - base) / base == pytest.approx(0.227, abs=0.001)


@pytest.mark.parametrize(
    ("layers", "parameters"), [(10, 409_920), (20, 819_840), (30, 1_229_760), (32, 1_311_744)]
)
def test_trainable_parameters_at_7b_shape(layers: int, parameters: int) -> None:
    """K*L*C + L*H; 1,229,760 is the paper's 1.2M (Table 1)."""
    model = attach(llama_7b(), ZeroInitConfig(num_layers=layers))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


def test_adapter_file_at_7b_shape() -> None:
    """4.69 MiB = 4.92 MB: the paper's 4.7M and 4.9M are one file. The rest is the header."""
    model = attach(llama_7b(), ZeroInitConfig())
    tensors = {name: torch.zeros(t.shape) for name, t in adapter_state_dict(model).items()}
    size = len(save(tensors))
    assert 0 <= size - 1_229_760 * 4 < 10_000


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1.07), (torch.bfloat16, 1.13)], ids=["float32", "bfloat16"]
)
def test_bytes_kept_for_backward(dtype: torch.dtype, limit: float) -> None:
    """Over plain attention; the reference concatenation keeps 4.8 times as much."""
    B, H, T, D, K = 2, 12, 512, 64, 10
    q, k, v = (torch.randn(B, H, T, D, dtype=dtype).requires_grad_() for _ in range(3))
    geometry = Geometry(H * D, H, H, D, linear_scores=True)
    layer = ZeroInit(ZeroInitConfig(K, 1), geometry, torch.device("cpu"), torch.float32)
    layer.gate.data.normal_()
    weight = torch.randn(2, H * D, H * D, dtype=dtype) * 0.05

    def project(prompt: Tensor) -> tuple[Tensor, Tensor]:
        key, value = ((prompt @ w.T).unflatten(-1, (H, D)).transpose(0, 1) for w in weight)
        return key, value

    def plain() -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def ours() -> Tensor:
        return plain() + prompt_term(q, layer(project, dtype, len(q)), D**-0.5)

    # Frozen weights exist anyway.
    ratio = bytes_kept_for_backward(ours, beside=[weight]) / bytes_kept_for_backward(plain)
    assert 1.0 < ratio <= limit
    assert ratio > 1.03  # the hooks see something: [B, H, T, K] must be saved
