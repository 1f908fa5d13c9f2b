"""LitGPT's adapter v1, against logits of LitGPT 0.5.13 (`make_litgpt.py` made them)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zia_core.backbones import build
from tests.zia_core.convert.make_litgpt import FILE, LAYERS, PROMPTS, backbone
from zia_core import ZiaError, zero_init_layers
from zia_core.convert import from_litgpt


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(FILE).items()}


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in golden.items() if n.startswith(prefix)}


def base(golden: dict[str, Tensor]) -> Any:
    model = backbone()
    model.load_state_dict(part(golden, "base/"))
    return model


@torch.no_grad()
def test_logits(golden: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(part(golden, "adapter/"), tmp_path / "lit_model.pth.adapter")
    model = base(golden)
    plain = model(input_ids=golden["ids"]).logits
    assert from_litgpt(model, tmp_path / "lit_model.pth.adapter") < 1e-6
    logits = model(input_ids=golden["ids"]).logits
    torch.testing.assert_close(logits, golden["logits"], rtol=1e-5, atol=1e-5)
    assert (logits - plain).abs().max() > 0.1
    layers = zero_init_layers(model)
    assert len(layers) == LAYERS
    assert layers[0].config.prompt_source == "key_value"
    assert layers[0].prompt.shape[1] == PROMPTS


def test_hidden_prompts_are_another_function(golden: dict[str, Tensor], tmp_path: Path) -> None:
    """Why they are not converted as such."""
    torch.save(part(golden, "adapter/"), tmp_path / "adapter.pth")
    model = base(golden)
    from_litgpt(model, tmp_path / "adapter.pth")
    layer = zero_init_layers(model)[-1]
    attention = model.model.layers[-1].self_attn
    projected = attention.k_proj(golden["adapter/transformer.h.2.attn.adapter_wte.weight"])
    assert (layer.prompt[0] - projected).abs().max() > 0.1


def test_other_files_are_refused(golden: dict[str, Tensor], tmp_path: Path) -> None:
    adapter = part(golden, "adapter/")
    torch.save(adapter, tmp_path / "adapter.pth")
    with pytest.raises(ZiaError, match="LLaMA and Mistral only, not for Qwen3Attention"):
        from_litgpt(build("qwen3"), tmp_path / "adapter.pth")
    adapter.pop("transformer.h.2.attn.gating_factor")
    torch.save(adapter, tmp_path / "adapter.pth")
    model = base(golden)
    with pytest.raises(ZiaError, match="does not hold a LitGPT adapter of the topmost of 3 layers"):
        from_litgpt(model, tmp_path / "adapter.pth")
    assert not zero_init_layers(model)
