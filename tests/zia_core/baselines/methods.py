"""Every baseline at pocket size: how to build it, its backbones, and what it trains."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tests.zia_core.backbones import build
from zia_core import baselines

VISION = ("timm", "vit")
LANGUAGE = ("bert", "roberta")
HEAD = r"(head|classifier|qa_outputs)\.(weight|bias)"


@dataclass(frozen=True)
class Method:
    make: Callable[[nn.Module], nn.Module]
    families: tuple[str, ...]
    trains: str  # pattern of the trained parameters' names, except the head's


METHODS = {
    "linear": Method(baselines.linear_probe, VISION + LANGUAGE, "$^"),
    "bitfit": Method(baselines.bitfit, VISION + LANGUAGE, r".*\.bias"),
    "houlsby": Method(
        lambda m: baselines.houlsby(m, 5),
        VISION + LANGUAGE,
        r".*\.adapter_(attention|mlp)\.(up|down)\.(weight|bias)"
        r"|(.*\.)?(norm\d?|layernorm\w*|LayerNorm)\.(weight|bias)",
    ),
    "houlsby-no-norms": Method(
        lambda m: baselines.houlsby(m, 5, train_norms=False),
        VISION + LANGUAGE,
        r".*\.adapter_(attention|mlp)\.(up|down)\.(weight|bias)",
    ),
    "side": Method(baselines.side_tuning, VISION, r"side_tuning\..*"),
    "vpt-shallow": Method(
        lambda m: baselines.vpt(m, 4, deep=False),
        VISION,
        r"(.*\.)?(blocks|layers)\.0\.visual_prompt\.prompt",
    ),
    "vpt-deep": Method(
        lambda m: baselines.vpt(m, 4, deep=True),
        VISION,
        r"(.*\.)?(blocks|layers)\.\d\.visual_prompt\.prompt",
    ),
    "lora": Method(
        lambda m: baselines.lora_encoder(m, 3),
        VISION + LANGUAGE,
        r".*lora_(A|B)(\.default)?\.weight",
    ),
    "prompt": Method(
        lambda m: baselines.prompt_tuning(m, 4), LANGUAGE, r"\w+\.soft_prompt\.prompt"
    ),
    "p-tuning-v2": Method(
        lambda m: baselines.p_tuning_v2(m, 4), LANGUAGE, r".*\.zero_init\.prompt"
    ),
}
PAIRS = [(name, family) for name, method in METHODS.items() for family in method.families]


def adapted(name: str, family: str, seed: int = 3, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The pocket backbone with the method, in eval mode; `seed` is for new parameters."""
    backbone = build(family).to(dtype)
    torch.manual_seed(seed)
    return METHODS[name].make(backbone).eval()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def may_train(name: str, parameter: str) -> bool:
    return re.fullmatch(f"{METHODS[name].trains}|{HEAD}", parameter) is not None


def stir(model: nn.Module, seed: int = 5) -> nn.Module:
    """Move all trained parameters away from their initial values, whose zeros hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(model).values():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise.to(parameter.dtype))
    return model
