"""Vision baselines against forwards written out by hand, in float64, away from their start."""

import math
from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers import HybridEmbed
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import gelu

from tests.zia_core.backbones import build, inputs, output
from tests.zia_core.baselines.methods import METHODS, VISION, adapted, stir, trained
from zia_core import ZiaError, baselines
from zia_core.baselines.side_tuning import _IMAGES


def images() -> Tensor:
    return inputs("timm")["pixel_values"].double()


def pocket(**kwargs: Any) -> Any:
    """A timm ViT that differs from `build("timm")` in its tokens or pooling."""
    torch.manual_seed(0)
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 4}
    return timm.create_model("vit_tiny_patch16_224", **shape, num_classes=7, **kwargs).double()


def stirred(name: str, family: str = "timm") -> Any:
    return stir(adapted(name, family, dtype=torch.float64))


def embedded(model: Any) -> Tensor:
    return model.norm_pre(model._pos_embed(model.patch_embed(images())))


def vpt_by_hand(hidden: Tensor, start: int, blocks: Any, adapted_blocks: Any) -> Tensor:
    """Bare blocks with the prompts of adapted ones: Jia et al., equations 4-7; prompts dropped."""
    for block, own in zip(blocks, adapted_blocks, strict=True):
        if hasattr(own, "visual_prompt"):
            prompt = own.visual_prompt.prompt.expand(len(hidden), 4, -1)
            hidden = torch.cat([hidden[:, :start], prompt, hidden[:, -16:]], 1)
        hidden = block(hidden)
    assert hidden.shape[1] == start + 4 + 16
    return torch.cat([hidden[:, :start], hidden[:, -16:]], 1)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "tokens", [{}, {"reg_tokens": 2}, {"global_pool": "avg", "class_token": False}]
)
def test_vpt_is_its_equations(deep: bool, tokens: dict[str, Any]) -> None:
    bare = pocket(**tokens).eval()
    model = stir(baselines.vpt(pocket(**tokens), 4, deep=deep).eval())
    hidden = vpt_by_hand(embedded(bare), bare.num_prefix_tokens, bare.blocks, model.blocks)
    expected = model.head(bare.fc_norm(bare.pool(bare.norm(hidden))))
    torch.testing.assert_close(model(images()), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["vpt-shallow", "vpt-deep"])
def test_vpt_on_transformers(name: str) -> None:
    model, bare = stirred(name, "vit"), build("vit").double()
    hidden = vpt_by_hand(bare.vit.embeddings(images()), 1, bare.vit.layers, model.vit.layers)
    expected = model.classifier(bare.vit.layernorm(hidden)[:, 0])
    found = output(model, {"pixel_values": images()})
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    model.set_attn_implementation("eager")  # its softmax is in float32
    found = output(model, {"pixel_values": images()})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def with_stem() -> Any:
    """Two 3 x 3 convolutions and a 2 x 2 projection in the place of 4 x 4 patches."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GELU())
    embed = partial(HybridEmbed, backbone=stem)
    shape = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 7}
    return VisionTransformer(img_size=16, patch_size=2, embed_layer=embed, **shape).eval()


@pytest.mark.parametrize("make", [lambda: build("timm"), lambda: build("vit"), with_stem])
def test_vpt_starts_uniformly_within_xaviers_bound(make: Any) -> None:
    """The bound of a 4 x 4 patch projection, also where a stem makes the tokens."""
    model = baselines.vpt(make(), 200, deep=True)
    bound = math.sqrt(6 / (3 * 4 * 4 + 48))
    prompts = torch.stack([p for n, p in trained(model).items() if "prompt" in n])
    assert prompts.shape == (3, 200, 48)
    assert 0.99 * bound < prompts.abs().max() <= bound
    assert prompts.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("name", [name for name in METHODS if "timm" in METHODS[name].families])
def test_a_convolutional_stem(name: str) -> None:
    model = stir(METHODS[name].make(with_stem()))
    logits = model(images().float())
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in trained(model).values())


def test_vpt_dropout_is_per_sample_and_off_in_evaluation() -> None:
    model = baselines.vpt(build("timm"), 50, deep=False, dropout=0.5).train()
    prompt = model.blocks[0].visual_prompt
    hidden = torch.zeros(2, 17, 48)
    dropped = prompt.insert(model.blocks[0], (hidden,))[0][:, 1:51]
    assert ((dropped == 0).double().mean() - 0.5).abs() < 0.05
    assert not torch.equal(dropped[0], dropped[1])
    kept = prompt.eval().insert(model.blocks[0], (hidden,))[0][:, 1:51]
    assert torch.equal(kept, prompt.prompt.expand(2, 50, 48))


def test_vpt_under_gradient_checkpointing() -> None:
    plain, saving = stirred("vpt-deep"), stirred("vpt-deep")
    saving.set_grad_checkpointing(True)
    for model in (plain, saving):
        model(images()).square().sum().backward()
    for name, parameter in trained(plain).items():
        torch.testing.assert_close(trained(saving)[name].grad, parameter.grad)


def adapter_by_hand(adapter: Any, hidden: Tensor) -> Tensor:
    inner = gelu(hidden @ adapter.down.weight.T + adapter.down.bias)
    return hidden + inner @ adapter.up.weight.T + adapter.up.bias


def test_houlsby_is_two_bottlenecks_inside_the_skip_connections() -> None:
    model, bare = stirred("houlsby"), build("timm").double()
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if "adapter" not in k})
    hidden = embedded(bare)
    for block, own in zip(bare.blocks, model.blocks, strict=True):
        hidden = hidden + adapter_by_hand(own.adapter_attention, block.attn(block.norm1(hidden)))
        hidden = hidden + adapter_by_hand(own.adapter_mlp, block.mlp(block.norm2(hidden)))
    expected = bare.head(bare.norm(hidden)[:, 0])
    torch.testing.assert_close(model(images()), expected, rtol=1e-10, atol=1e-10)


def test_houlsby_starts_truncated_normal() -> None:
    model = baselines.houlsby(build("timm"), 64)
    for block in model.blocks:
        for adapter in (block.adapter_attention, block.adapter_mlp):
            for linear in (adapter.down, adapter.up):
                assert linear.weight.abs().max() <= 0.02
                assert 0.008 < linear.weight.std() < 0.01  # 0.0088: two standard deviations
                assert not linear.bias.any()


@pytest.mark.parametrize("family", VISION)
def test_lora_merged_into_the_backbone(family: str) -> None:
    """W + (alpha / r) B A on queries and values, nothing on keys."""
    model, bare = stirred("lora", family), build(family).double()
    with torch.no_grad():
        bare_head = dict(bare.named_parameters())
        for name, parameter in baselines.head_parameters(model).items():
            bare_head[name].copy_(parameter)
        if family == "timm":
            for block, own in zip(bare.blocks, model.blocks, strict=True):
                query, _, value = block.attn.qkv.weight.split(48)
                for weight, term in ((query, own.attn.lora.query), (value, own.attn.lora.value)):
                    weight += 16.0 / 3 * term.lora_B.weight @ term.lora_A.weight
        else:
            for layer, own in zip(bare.vit.layers, model.vit.layers, strict=True):
                for part in ("q_proj", "v_proj"):
                    linear = getattr(own.attention, part)
                    A, B = linear.lora_A["default"].weight, linear.lora_B["default"].weight
                    getattr(layer.attention, part).weight.add_(16 / 3 * B @ A)
    batch = {"pixel_values": images()}
    torch.testing.assert_close(output(model, batch), output(bare, batch), rtol=1e-9, atol=1e-9)


def test_fused_lora_starts_as_pefts() -> None:
    """The distribution of A, by its bound: uniform within 1/sqrt(fan-in)."""
    ours = baselines.lora_encoder(build("timm"), 64).blocks[0].attn.lora.query.lora_A.weight
    peft = baselines.lora_encoder(build("vit"), 64).vit.layers[0].attention.q_proj.lora_A["default"]
    for weight in (ours, peft.weight):
        assert 0.95 / math.sqrt(48) < weight.abs().max() <= 1 / math.sqrt(48)


def test_lora_dropout_is_on_the_low_rank_term_alone() -> None:
    model = stir(baselines.lora_encoder(build("timm"), 3, dropout=1.0)).train()
    with_term = model.eval()(images().float())
    without = model.train()(images().float())
    bare = build("timm")
    bare.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(without, bare(images().float()))
    assert not torch.allclose(with_term, without)


@pytest.mark.parametrize("family", VISION)
def test_side_tuning_blends_features(family: str) -> None:
    model = stirred("side", family)
    tuning, head = model.side_tuning, getattr(model, "head", None) or model.classifier
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits = output(model, {"pixel_values": images()})
    hook.remove()
    bare = build(family).double()
    if family == "timm":
        features = bare.forward_head(bare.forward_features(images()), pre_logits=True)
    else:
        features = bare.vit(images()).last_hidden_state[:, 0]
    share = torch.sigmoid(tuning.alpha)
    side = tuning.network(images()).flatten(1) @ tuning.projection.weight.T
    blended = share * features + (1 - share) * side
    torch.testing.assert_close(seen[0], blended, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits, blended @ head.weight.T + head.bias, rtol=1e-9, atol=1e-9)
    assert not _IMAGES.get()  # nothing is held between passes


def test_side_tuning_starts_at_one_half_and_ends_at_either_side() -> None:
    model, bare = adapted("side", "timm", dtype=torch.float64), build("timm").double()
    assert torch.sigmoid(model.side_tuning.alpha) == 0.5
    with torch.no_grad():
        model.side_tuning.alpha.fill_(60.0)
    torch.testing.assert_close(model(images()), bare(images()))


def test_side_network_of_ones_own() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.GELU())
    model = baselines.side_tuning(build("timm"), network)
    assert model.side_tuning.projection.in_features == 5 * 4 * 4
    assert model.side_tuning.network is network
    with pytest.raises(ZiaError, match=r"Sequential has buffers.*without batch norm"):
        baselines.side_tuning(build("timm"), nn.Sequential(nn.BatchNorm2d(3)))
