"""Language models and text encoders by name, and how language models are loaded.

Encoders for question answering are loaded by `experiments.backbones.text_encoders`. LLaMA may be in
the format Meta released it in. A GGUF is dequantised when loaded; its numbers are not those of the
hub's file, so it has its own name. The pocket models of `mini` are released with the project.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import meta_llama, meta_tokenizer, own
from experiments.backbones.weights import by_name, located, no_progress_bars
from experiments.harness.needs import CONFIG, Source
from experiments.io.files import read_json
from zia_core.errors import ZiaError
from zia_core.validation import conform

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class LanguageBackbone(Source):
    """A language model or text encoder."""

    layers: int
    encoder: bool = False  # whether its tokens see later ones, as BERT's do


_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        # The hub has no LLaMA-1 of Meta's own; this is the usual conversion of it.
        LanguageBackbone(
            name="llama-7b",
            layers=32,
            folder="llama-7b",
            hub="huggyllama/llama-7b",
            revision="8416d3fefb0cb3ff5775a7b13c1692d10ff1aa16",
        ),
        LanguageBackbone(
            name="smollm2-135m-instruct",
            layers=30,
            folder="smollm2-135m-instruct",
            hub=_SMOLLM2,
            revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        ),
        LanguageBackbone(
            name="smollm2-135m-instruct-q4_1",
            layers=30,
            folder="smollm2-135m-instruct",
            gguf=True,
            howto="run `make smollm2`",
        ),
        LanguageBackbone(
            name="roberta-large",
            layers=24,
            encoder=True,
            folder="roberta-large",
            hub="FacebookAI/roberta-large",
            revision="722cf37b1afa9454edce342e7895e588b6ff1d59",
        ),
        LanguageBackbone(
            name="roberta-base",
            layers=12,
            encoder=True,
            folder="roberta-base",
            hub="FacebookAI/roberta-base",
            revision="e2da8e2f811d1448a5b465c236feacd80ffbac7b",
        ),
        LanguageBackbone(
            name="distilroberta-base",
            layers=6,
            encoder=True,
            folder="distilroberta-base",
            hub="distilbert/distilroberta-base",
            revision="fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b",
        ),
        # The package and the hub hold the same file (SHA-256 53aa5117...).
        LanguageBackbone(
            name="minilm-l6",
            layers=6,
            encoder=True,
            folder="minilm-l6",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            howto="run `make minilm`",
        ),
        *(
            LanguageBackbone(
                name=f"pocket-{kind}",
                layers=6,
                encoder=kind == "roberta",
                folder=f"pocket-{kind}",
                howto=f"fetch the project's files again, or run `zia pretrain {kind}` and put the "
                "folder backbone/ of that run there",
                released=True,
            )
            for kind in ("llama", "roberta")
        ),
    )
}


def get(name: str) -> LanguageBackbone:
    """The backbone of that name in a spec; ZiaError lists the known ones."""
    if not own.is_own(name):
        return by_name(BACKBONES, name)
    return LanguageBackbone(**vars(own.source(name)), layers=_layers(own.files_of(name)))


def _layers(folder: Path) -> int:
    """The number of layers that a model's configuration states."""
    if meta_llama.weight_files(folder):
        path, field = folder / meta_llama.PARAMS, "n_layers"
        config = read_json(path)
    else:
        path = folder / CONFIG
        config = read_json(path)
        config = config.get("text_config", config)  # of a model that also takes images
        names = ("num_hidden_layers", "n_layer", "n_layers")  # the last: GPT-2's, DistilBERT's
        field = next((name for name in names if name in config), names[0])
    layers: int = conform(int, config.get(field), f"{path}: {field}")
    if layers < 1:
        raise ZiaError(f"{path}: {field} must be at least 1, not {layers}")
    return layers


def named(asked: str, *, encoder: bool) -> str:
    """The name in specs of an encoder, or of a language model, as `own.named` finds it.

    ZiaError, beside those of `own.named`, if it is a known model of the other kind.
    """
    names = [each.name for each in BACKBONES.values() if each.encoder == encoder]
    if asked in BACKBONES and asked not in names:
        kinds = ("an encoder", "a language model")
        is_one, is_wanted = kinds if not encoder else reversed(kinds)
        raise ZiaError(
            f"{asked} is {is_one}, and {is_wanted} is needed: give a model of your own, or one of "
            f"{', '.join(names)}"
        )
    return own.named(asked, names)


def causal(asked: str) -> LanguageBackbone:
    """The language model that `--backbone` asks for, as `own.named` finds it.

    Raises:
        ZiaError: as `own.named`, its architecture is not supported, or it lacks a tokenizer that
            the experiments can use.
    """
    name = named(asked, encoder=False)
    if own.is_own(name):
        _check_causal(name)
    return get(name)


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a model that is not in the project's list; ZiaError if there is none."""
    folder = own.files_of(name)
    if meta_llama.weight_files(folder):
        return meta_tokenizer.load(folder)
    return own.tokenizer(folder, name)


def tokenizer_here(name: str) -> Any:
    """The tokenizer of any model, without the network; None if it is not here."""
    if own.is_own(name):
        return tokenizer_of(name)
    folder = get(name).local
    return own.tokenizer(folder, name) if (folder / "tokenizer_config.json").exists() else None


@cache
def _check_causal(name: str) -> None:
    from transformers import AutoModelForCausalLM

    from zia_core.families import attention_layers

    folder, embeddings = own.files_of(name), None
    if not meta_llama.weight_files(folder):
        with own.refused(f"{name} cannot be a language model here"):
            model = own.shape_of(folder, AutoModelForCausalLM)
            found = attention_layers(model)
        if not all(getattr(layer.attention, "is_causal", False) for layer in found):
            raise ZiaError(f"{name} is not a causal language model: its tokens see later ones")
        layers = len(found)
        if layers != _layers(folder):
            raise ZiaError(
                f"{name} has {layers} attention layers that prompts can be attached to, and "
                f"{_layers(folder)} layers: such models are not supported"
            )
        embeddings = model.get_input_embeddings().num_embeddings
    tokenizer = tokenizer_of(name)
    if embeddings is not None:  # Meta's own is compared when its weights are read
        own.check_vocabulary(tokenizer, embeddings, name)
    if not tokenizer.is_fast or tokenizer.eos_token is None:
        raise ZiaError(f"the tokenizer of {name} has no EOS token or no tokenizer.json")


def smollm2() -> str:
    """The name of the SmolLM2 on this machine: the GGUF only if there is no hub format."""
    name = "smollm2-135m-instruct"
    folder = BACKBONES[name].local
    only_gguf = not (folder / CONFIG).exists() and any(folder.glob("*.gguf"))
    return f"{name}-q4_1" if only_gguf else name


def load(
    backbone: LanguageBackbone, dtype: "torch.dtype", device: str, *, four_bit: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", dict[str, str]]:
    """Load model and tokenizer; with `four_bit`, quantise the model (`zia_core.four_bit`).

    Returns:
        The model in eval mode, the tokenizer, and the SHA-256 of every weight file by its name.

    Raises:
        ZiaError: as in `weights.located`, or bitsandbytes is needed and not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with located(backbone) as found:
        if found.as_meta_released:
            tokenizer: Any = meta_tokenizer.load(found.folder)
            with no_progress_bars():
                model: Any = meta_llama.load(found.folder, dtype, len(tokenizer))
            return _placed(model, device, four_bit), tokenizer, found.fingerprint()
        # Code that `config.json` names (`auto_map`) is neither run nor asked about.
        options: dict[str, Any] = {"trust_remote_code": False}
        if backbone.gguf:
            options["gguf_file"] = found.files[0].name
        tokenizer = AutoTokenizer.from_pretrained(found.folder, **options)
        if backbone.gguf:
            # transformers may keep weights packed, which then have no gradient and other numbers.
            options["quantization_config"] = GgufConfig(dequantize=True)
        with no_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(found.folder, dtype=dtype, **options)
        own.check_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings, backbone.name)
    return _placed(model, device, four_bit).eval(), tokenizer, found.fingerprint()


def _placed(model: Any, device: str, four_bit: bool) -> Any:
    """The model on its device; in 4 bits it never is there as a whole before."""
    if four_bit:
        from zia_core.four_bit import quantise

        quantise(model, device)
    return model.to(device)
