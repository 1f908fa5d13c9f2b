"""Training and inference of encoders: a ViT against VPT-deep, a RoBERTa against P-tuning v2.

    python -m benchmarks.encoders --out FILE.json

VPT-deep lengthens the sequence of every block, P-tuning v2 the keys of every attention; zero-init
attention does neither. All methods have the same number of prompts, and no dropout.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import command
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import Floor, check_vit, open_gates
from zia_core import ZeroInitConfig, attach, baselines, frozen_prompts, train_head
from zia_core.errors import ZiaError
from zia_core.memory import bytes_kept_for_backward

ROUNDS = 5
BASE = "backbone"


@dataclass(frozen=True)
class Shape:
    """A timm ViT and a transformers RoBERTa, adapted in all layers."""

    vit_width: int = 768
    vit_layers: int = 12
    vit_heads: int = 12
    images: int = 2
    image_size: int = 224
    patch_size: int = 16
    vit_prompts: int = 10
    roberta_width: int = 1024
    roberta_layers: int = 24
    roberta_heads: int = 16
    vocabulary: int = 1024  # only looked up
    texts: int = 1
    tokens: int = 128
    roberta_prompts: int = 16
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ZiaError if the sizes are inconsistent."""
        check_vit(self.vit_width, self.vit_heads, self.image_size, self.patch_size)
        if self.roberta_width % self.roberta_heads:
            raise ZiaError(
                f"roberta_width {self.roberta_width} must be a multiple of the "
                f"{self.roberta_heads} roberta_heads"
            )


@dataclass(frozen=True)
class Encoder:
    """A backbone with each method, their common batch, and the loss of a model on it."""

    models: dict[str, Any]
    loss: Callable[[Any], Tensor]
    samples: int


def vit(shape: Shape) -> Encoder:
    """An image classifier of ten classes with hidden prompts, as in the paper's ViT."""
    from timm.models import VisionTransformer

    torch.manual_seed(0)
    base: Any = VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        num_classes=10,
        embed_dim=shape.vit_width,
        depth=shape.vit_layers,
        num_heads=shape.vit_heads,
    )
    K = shape.vit_prompts
    images = torch.randn(shape.images, 3, shape.image_size, shape.image_size, device=shape.device)
    classes = torch.randint(0, 10, (shape.images,), device=shape.device)
    models = _with_methods(
        base.to(shape.device),
        base.blocks[0].attn.proj,
        ZeroInitConfig(K, shape.vit_layers),
        ("VPT-deep", lambda model: baselines.vpt(model, K, deep=True, dropout=0.0)),
    )
    return Encoder(models, lambda model: cross_entropy(model(images), classes), shape.images)


def roberta(shape: Shape) -> Encoder:
    """A question-answering model with `key_value` prompts, as in the paper's RoBERTa."""
    from transformers import RobertaConfig, RobertaForQuestionAnswering

    torch.manual_seed(0)
    base: Any = RobertaForQuestionAnswering(
        RobertaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.roberta_width,
            intermediate_size=4 * shape.roberta_width,
            num_hidden_layers=shape.roberta_layers,
            num_attention_heads=shape.roberta_heads,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    K = shape.roberta_prompts
    ids = torch.randint(2, shape.vocabulary, (shape.texts, shape.tokens), device=shape.device)
    spans = torch.randint(0, shape.tokens, (2, shape.texts), device=shape.device)
    models = _with_methods(
        base.to(shape.device),
        base.roberta.encoder.layer[0].attention.output.dense,
        ZeroInitConfig(K, shape.roberta_layers, prompt_source="key_value"),
        ("P-tuning v2", lambda model: baselines.p_tuning_v2(model, K, dropout=0.0)),
    )

    def loss(model: Any) -> Tensor:
        return model(input_ids=ids, start_positions=spans[0], end_positions=spans[1]).loss

    return Encoder(models, loss, shape.texts)


def _with_methods(
    base: nn.Module,
    projection: nn.Module,
    config: ZeroInitConfig,
    peer: tuple[str, Callable[[Any], Any]],
) -> dict[str, Any]:
    """The backbone with a trained head and backward pass to its lowest attention; ours; a peer."""
    ours, theirs = copy.deepcopy(base), copy.deepcopy(base)
    floor = Floor(base, projection)
    train_head(base)
    open_gates(attach(ours, config))
    name, method = peer
    return {
        BASE: floor,
        "zero-init": train_head(ours),
        name: method(theirs),
    }


def training(encoder: Encoder, shape: Shape, rounds: int) -> Part:
    """Time optimiser steps; the backbone trains its head and a shift in the lowest attention."""
    done = synchronizer(shape.device)

    def step(model: nn.Module) -> Callable[[], None]:
        trained = [p for p in model.train().parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)

        def call() -> None:
            encoder.loss(model).backward()
            optimizer.step()
            optimizer.zero_grad()
            done()

        return call

    calls = {name: step(model) for name, model in encoder.models.items()}
    figures = {name: _counts(encoder, model) for name, model in encoder.models.items()}
    work = {"samples": encoder.samples}
    return part(interleaved(calls, rounds, warmup=1), BASE, figures=figures, work=work)


def _counts(encoder: Encoder, model: nn.Module) -> dict[str, float]:
    weights = [*model.parameters(), *model.buffers()]
    return {
        "trained parameters": baselines.tuned_parameters(model),
        "kept for backward, bytes": bytes_kept_for_backward(lambda: encoder.loss(model), weights),
    }


def inference(encoder: Encoder, shape: Shape, rounds: int) -> Part:
    """Time forward passes; our prompts' keys and values are cached between them."""
    done = synchronizer(shape.device)

    def ask(model: nn.Module) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                encoder.loss(model)
            done()

        return call

    calls = {name: ask(model.eval()) for name, model in encoder.models.items()}
    with frozen_prompts(encoder.models["zero-init"]):
        seconds = interleaved(calls, rounds, warmup=1)
    return part(seconds, BASE, work={"samples": encoder.samples})


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Measure training and inference of both encoders."""
    parts = {}
    for title, build in (("ViT", vit), ("RoBERTa", roberta)):
        encoder = build(shape)
        parts[f"{title}, training"] = training(encoder, shape, rounds)
        parts[f"{title}, inference"] = inference(encoder, shape, rounds)
    return record("encoders", shape, parts)


if __name__ == "__main__":
    command.main("encoders")
