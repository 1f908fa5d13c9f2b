"""Twins of the backbones: the same class, depth and configuration, narrow, with seeded weights.

What the real folder in $ZIA_WEIGHTS has, its configuration and tokenizer, is taken from there.
Otherwise the configuration is the published one in `SHAPES`, and the tokenizer a small one.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import (
    language_models,
    meta_llama,
    meta_tokenizer,
    own,
    vision_models,
)
from experiments.backbones.weights import WEIGHTS, no_progress_bars
from experiments.harness.needs import CONFIG, Source
from experiments.images import encoders
from experiments.images.encoder_preprocessing import PREPROCESSOR
from experiments.io.files import read_json
from experiments.rehearsal import tokenizers
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NARROW = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
SHARD = "100KB"  # a real LLaMA-7B comes in several files, too
TIMM_NARROW = {"embed_dim": 32, "num_heads": 4}
FEW_PATCHES = {"patch_size": 56}  # of the project's own, which take images of 224 pixels
_LLAMA: dict[str, Any] = {"model_type": "llama", "rms_norm_eps": 1e-6}
_ROBERTA: dict[str, Any] = {
    "model_type": "roberta",
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
# The published configurations, as far as a twin keeps them.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "llama-7b": _LLAMA | {"num_hidden_layers": 32},
    "smollm2-135m-instruct": _LLAMA | {"num_hidden_layers": 30, "tie_word_embeddings": True},
    "roberta-large": _ROBERTA | {"num_hidden_layers": 24},
    "roberta-base": _ROBERTA | {"num_hidden_layers": 12},
    "distilroberta-base": _ROBERTA | {"num_hidden_layers": 6},
    "minilm-l6": {"model_type": "bert", "num_hidden_layers": 6},
    "clip-vit-l-14": {
        "model_type": "clip",
        "text_config": {"num_hidden_layers": 12},
        "vision_config": {"num_hidden_layers": 24, "patch_size": 14, "image_size": 224},
    },
}
CLIP_IMAGES: Mapping[str, Any] = {
    "do_center_crop": True,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def write_twin(name: str, weights: Path) -> str:
    """Write the twin of a backbone or image encoder into its folder in `weights`, if it needs one.

    Returns what was taken from the real model: "" if nothing was; "released" if the model comes
    with the project and is used itself. ZiaError for a model whose configuration is not known.
    """
    source = _source(name)
    if source.released:
        return "released"
    target = weights / folder_of(name)
    real = own.files_of(name) if own.is_own(name) else source.local
    if (target / source.marker).exists():
        return read_json(target / "twin.json")["real"]
    shutil.rmtree(target, ignore_errors=True)
    staging = target.with_name(f".{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    with _seeded(), no_progress_bars():
        if isinstance(source, vision_models.ImageBackbone):
            taken = _write_timm(source, real, staging)
        else:
            taken = _write_transformers(name, source, real, staging)
    (staging / "twin.json").write_text(json.dumps({"real": ", ".join(taken)}), encoding="utf-8")
    staging.rename(target)
    return ", ".join(taken)


def is_listed(name: str) -> bool:
    """Whether a model is in the project's own lists."""
    return any(
        name in known
        for known in (language_models.BACKBONES, vision_models.BACKBONES, encoders.NAMED)
    )


def folder_of(name: str) -> str:
    """The name of a twin's folder; of a model of one's own, one that its content decides."""
    return re.sub("[@/]+", "-", name) if own.is_own(name) else _source(name).folder


def _source(name: str) -> Source:
    if name in language_models.BACKBONES:
        return language_models.get(name)
    if own.is_own(name):
        timm = "architecture" in _config_json(own.files_of(name))
        return vision_models.get(name) if timm else own.source(name)
    return encoders.source(name)


def _config_json(folder: Path) -> dict[str, Any]:
    """The content of config.json; empty without one."""
    return read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}


@contextmanager
def _seeded() -> Iterator[None]:
    import torch

    from zia_core.rng import isolated_rng

    with isolated_rng():
        torch.manual_seed(0)
        yield


def _write_timm(source: vision_models.ImageBackbone, real: Path, folder: Path) -> list[str]:
    import timm
    from safetensors.torch import save_file

    known = _config_json(real)
    config: dict[str, Any] = {"architecture": source.architecture} | known
    narrow = TIMM_NARROW if own.is_own(source.name) else TIMM_NARROW | FEW_PATCHES
    config["model_args"] = (config.get("model_args") or {}) | narrow
    model: Any = timm.create_model(str(source.architecture), num_classes=7, **config["model_args"])
    save_file(model.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return [CONFIG] if known else []


def _write_transformers(name: str, source: Source, real: Path, folder: Path) -> list[str]:
    from transformers import AutoConfig

    taken = []
    config: Any
    if shards := meta_llama.weight_files(real):
        config = meta_llama.llama_config(real, shards)
        taken.append(meta_llama.PARAMS)
    elif (real / CONFIG).exists():
        config = AutoConfig.from_pretrained(real, trust_remote_code=False)
        taken.append(CONFIG)
    elif (shape := SHAPES.get(name)) is not None:
        config = AutoConfig.for_model(**shape)
    else:
        raise ZiaError(
            f"the configuration of {name} is not known, so it has no twin: put its {CONFIG} into "
            f"{source.local}"
        )
    if hasattr(config, "vision_config"):
        for tower in (config.vision_config, config.text_config):
            _narrow(tower)
        taken += _preprocessor(real, folder)
    else:
        _narrow(config)
        with_images = hasattr(config, "patch_size")
        taken += (_preprocessor if with_images else partial(_tokenizer, config))(real, folder)
    _model(config).save_pretrained(folder, max_shard_size=SHARD)
    return taken


def _narrow(config: "PretrainedConfig") -> None:
    for field, value in NARROW.items():
        if hasattr(config, field):
            setattr(config, field, value)
    if getattr(config, "head_dim", None):
        config.head_dim = NARROW["hidden_size"] // NARROW["num_attention_heads"]


def _preprocessor(real: Path, folder: Path) -> list[str]:
    if (real / PREPROCESSOR).exists():
        shutil.copyfile(real / PREPROCESSOR, folder / PREPROCESSOR)
        return [PREPROCESSOR]
    (folder / PREPROCESSOR).write_text(json.dumps(CLIP_IMAGES), encoding="utf-8")
    return []


def _tokenizer(config: Any, real: Path, folder: Path) -> list[str]:
    """Write the tokenizer, the real one if it is there, and fit the vocabulary to it."""
    from transformers import AutoTokenizer

    known = bool(meta_llama.weight_files(real)) or (
        (real / CONFIG).exists()
        and any(any(real.glob(pattern)) for pattern in ("tokenizer.*", "vocab.*"))
    )
    if meta_llama.weight_files(real):
        tokenizer: Any = meta_tokenizer.load(real)
    elif known:
        tokenizer = AutoTokenizer.from_pretrained(real, trust_remote_code=False)
    elif (make := tokenizers.BY_KIND.get(config.model_type)) is not None:
        tokenizer = make()
    else:
        raise ZiaError(f"a tokenizer for {config.model_type} cannot be made: put it into {real}")
    tokenizer.save_pretrained(folder)
    config.vocab_size = max(len(tokenizer), getattr(config, "vocab_size", 0) if known else 0)
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, field, getattr(tokenizer, field))
    return ["tokenizer"] if known else []


def _model(config: Any) -> Any:
    """The model with random weights, of the class that the real files are of."""
    import transformers

    named = [
        getattr(transformers, name, None) for name in getattr(config, "architectures", None) or []
    ]
    kinds = {
        "llama": transformers.LlamaForCausalLM,
        "roberta": transformers.RobertaForMaskedLM,
        "bert": transformers.BertModel,
        "clip": transformers.CLIPModel,
    }
    kind: Any = next(filter(None, named), None) or kinds.get(config.model_type)
    return kind(config) if kind else transformers.AutoModel.from_config(config)
