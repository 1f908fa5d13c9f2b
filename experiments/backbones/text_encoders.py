"""Load encoders like BERT with a new head for question answering."""

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models, own
from experiments.backbones.weights import located, no_load_report, no_progress_bars
from experiments.harness.needs import Source
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# A checkpoint may also have heads of the tasks it was trained on, a pooler, which span prediction
# does not use, and a constant that old checkpoints store.
_LEFT_BEHIND = re.compile(
    r"(cls|lm_head|decoder|(pre_)?classifier|score|qa_outputs|vocab_\w+|discriminator_predictions"
    r"|generator_(predictions|lm_head))\..*|(\w+\.)?(pooler\..*|embeddings\.position_ids)"
)
# The fields of config.json that have the dropout of hidden states, by model type.
_HIDDEN_DROPOUT: dict[str, tuple[str, ...]] = {
    "distilbert": ("dropout",),
    "modernbert": ("embedding_dropout", "mlp_dropout"),
}


def reader(asked: str) -> str:
    """The name in specs of the encoder that `--backbone` asks for, as `own.named` finds it.

    Raises:
        ZiaError: as `own.named`, it is not like BERT, or lacks a fast tokenizer.
    """
    name = language_models.named(asked, encoder=True)
    if own.is_own(name):
        _check_reader(name)
    return name


def positions(name: str) -> int | None:
    """The longest input in tokens of an encoder that is not in the project's list, else None."""
    return _check_reader(name) if own.is_own(name) else None


def for_questions(config: "PretrainedConfig", hidden_dropout: float | None) -> "PretrainedConfig":
    """The configuration, changed for a head of two outputs and another dropout of hidden states.

    Args:
        config: of an encoder.
        hidden_dropout: None to keep the encoder's own.
    """
    if config.num_labels != 2:  # of a classifier
        config.num_labels = 2
    if hidden_dropout is not None:
        for field in _HIDDEN_DROPOUT.get(config.model_type, ("hidden_dropout_prob",)):
            setattr(config, field, hidden_dropout)
    return config


@cache
def _check_reader(name: str) -> int:
    """Refuse what is not an encoder for questions; return the longest input in tokens."""
    from transformers import AutoModelForQuestionAnswering

    from zia_core.baselines.encoders import text_encoder
    from zia_core.families import attention_layers

    folder = own.files_of(name)
    with own.refused(f"{name} cannot answer questions here, which takes an encoder like BERT"):
        model = own.shape_of(
            folder, AutoModelForQuestionAnswering, lambda config: for_questions(config, None)
        )
        encoder = text_encoder(model)
        if any(getattr(layer.attention, "is_causal", False) for layer in attention_layers(model)):
            raise ZiaError("its tokens do not see later ones")
    tokenizer = own.tokenizer(folder, name)
    if not tokenizer.is_fast or tokenizer.pad_token is None:
        raise ZiaError(f"the tokenizer of {name} has no padding token or no tokenizer.json")
    own.check_vocabulary(tokenizer, encoder.words.num_embeddings, name)
    return encoder.most_tokens


def load_for_question_answering(
    backbone: Source,
    dtype: "torch.dtype",
    device: str,
    *,
    seed: int,
    hidden_dropout: float | None = None,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", dict[str, str]]:
    """Load an encoder with a new head (C, 2) for the logits of start and end.

    Args:
        backbone: one of `language_models.BACKBONES` that is an encoder.
        dtype: of all weights.
        device: of the model.
        seed: of the head, which is drawn like the encoder's own weights, N(0,
            initializer_range^2), with a bias of zero. A head in the checkpoint is not used.
        hidden_dropout: replaces the encoder's own dropout of hidden states.

    Returns:
        The model in eval mode, the tokenizer, whose `model_input_names` are the model's, and the
        SHA-256 of every weight file by its name.

    Raises:
        ZiaError: as in `weights.located`, or the weights are not those of the encoder that
            config.json describes.
    """
    from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer

    from zia_core.head import task_head

    with located(backbone) as found:
        options: dict[str, Any] = {"trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(found.folder, **options)
        config = AutoConfig.from_pretrained(found.folder, **options)
        with no_progress_bars(), no_load_report():
            model: Any
            model, report = AutoModelForQuestionAnswering.from_pretrained(
                found.folder,
                config=for_questions(config, hidden_dropout),
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, in one sentence
                **options,
            )
    head = task_head(model)
    name = next(name for name, module in model.named_modules() if module is head)
    _check(backbone, report, name)
    _draw(head, seed, model.config.initializer_range)
    types = ["token_type_ids"] if _has_token_types(model) else []
    tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]
    return model.to(device).eval(), tokenizer, found.fingerprint()


def _check(backbone: Source, report: dict[str, Any], head: str) -> None:
    misfits = {
        "lacks": [name for name in report["missing_keys"] if not name.startswith(f"{head}.")],
        "has too much": [
            name for name in report["unexpected_keys"] if not _LEFT_BEHIND.fullmatch(name)
        ],
        "has in another shape": [
            name for name, *_ in report["mismatched_keys"] if not name.startswith(f"{head}.")
        ],
    }
    for fault, names in misfits.items():
        if names and all(name.startswith("head.") for name in names):
            raise ZiaError(
                f"{backbone.name} lacks the prediction head that it was pretrained with ({names[0]}"
                "), which a ModernBERT answers questions with: take the masked language model"
            )
        if names:
            raise ZiaError(
                f"the weights of {backbone.name} are not those of the encoder in its config.json: "
                f"the file {fault}: {_few(names)}; {backbone.howto or 'fetch both again'}"
            )


def _few(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return first + (f" and {len(others)} more" if others else "")


def _has_token_types(model: Any) -> bool:
    """Whether the encoder tells the question from the paragraph by token types."""
    types = getattr(model.base_model.embeddings, "token_type_embeddings", None)
    return types is not None and types.num_embeddings > 1


def _draw(head: Any, seed: int, std: float) -> None:
    """Draw it from its own generator, so that it depends on no other draw and no library."""
    import torch

    weight = torch.empty(head.weight.shape).normal_(
        std=std, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()
