"""Build backbones on torch's meta device: shapes without numbers, to predict costs.

A model's own config.json is used where its weights are here, so that what is predicted is what will
be loaded. For the paper's models, which may not be here, the sizes are known.
"""

from typing import TYPE_CHECKING, Any

from experiments.backbones import meta_llama, own, small_vit, vision_models
from experiments.backbones.text_encoders import for_questions
from experiments.backbones.vision_models import ImageBackbone
from experiments.backbones.weights import RELEASED
from experiments.harness.needs import CONFIG, Source
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Fields of config.json that differ from the defaults of the class in transformers.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-7b": ("LlamaConfig", {}),
    "roberta-large": (
        "RobertaConfig",
        {
            "vocab_size": 50265,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
    ),
}


def language_model(backbone: Source, dtype: "torch.dtype", device: str = "meta") -> "nn.Module":
    """A causal language model of the backbone's shape."""
    from transformers import AutoModelForCausalLM

    return _built(AutoModelForCausalLM, _config(backbone), dtype, device)


def question_answering(
    backbone: Source,
    dtype: "torch.dtype",
    hidden_dropout: float | None = None,
    device: str = "meta",
) -> "nn.Module":
    """An encoder of the backbone's shape with a head for question answering."""
    from transformers import AutoModelForQuestionAnswering

    config = for_questions(_config(backbone), hidden_dropout)
    return _built(AutoModelForQuestionAnswering, config, dtype, device)


def vit(
    backbone: ImageBackbone, device: str = "meta", resolution: int | None = None
) -> "nn.Module":
    """A ViT of the backbone's shape, without a classifier; for images of its own resolution."""
    import torch

    model: Any
    with torch.device(device):
        if own.is_own(backbone.name):
            model = vision_models.empty(backbone.name)
        elif backbone.architecture is None:
            return small_vit.build(small_vit.ViTShape())
        else:
            model = vision_models.timm_model(backbone.architecture, {})
        if resolution not in (None, backbone.resolution):
            model.set_input_size(img_size=resolution)
    built: nn.Module = model
    return built


def _config(backbone: Source) -> Any:
    import transformers

    folders = [backbone.local, RELEASED / backbone.folder]
    if own.is_own(backbone.name):
        folders = [own.files_of(backbone.name)]
    for folder in folders:
        if files := meta_llama.weight_files(folder):
            return meta_llama.llama_config(folder, files)
        if (folder / CONFIG).exists():
            try:
                return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            except (OSError, ValueError, KeyError) as error:
                raise ZiaError(f"{folder / CONFIG} describes no model: {error!s:.200}") from error
    if backbone.name not in SIZES:
        raise ZiaError(
            f"the sizes of {backbone.name} are unknown until {backbone.local / CONFIG} is there"
        )
    kind, sizes = SIZES[backbone.name]
    return getattr(transformers, kind)(**sizes)


def _built(kind: Any, config: Any, dtype: "torch.dtype", device: str) -> "nn.Module":
    import torch

    with torch.device(device):
        model: nn.Module = kind.from_config(config, dtype=dtype)
    return model
