"""Load encoders like BERT and RoBERTa with a new head for question answering."""

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
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "qa_outputs"
# A checkpoint may also have heads of the tasks it was trained on, a pooler, which span prediction
# does not use, and a constant that old checkpoints store.
_LEFT_BEHIND = re.compile(
    r"(cls|lm_head|classifier|score|qa_outputs)\..*|(\w+\.)?(pooler\..*|embeddings\.position_ids)"
)


def reader(asked: str) -> str:
    """The name in specs of the encoder that `--backbone` asks for, as `own.named` finds it.

    Raises:
        ZiaError: as `own.named`, it is not like BERT or RoBERTa, or lacks a fast tokenizer.
    """
    name = own.named(asked, language_models.BACKBONES)
    if own.is_own(name):
        _check_reader(name)
    return name


def positions(name: str) -> int | None:
    """The longest input in tokens of an encoder that is not in the project's list, else None."""
    if not own.is_own(name):
        return None
    config = own.config_of(name)
    reserved = config.get("pad_token_id", 1) + 1 if "roberta" in config["model_type"] else 0
    return int(config.get("max_position_embeddings", 512)) - reserved


@cache
def _check_reader(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    from zia_core.baselines.encoders import blocks
    from zia_core.families import attention_layers

    folder = own.files_of(name)
    with own.refused(
        f"{name} cannot answer questions here, which takes an encoder like BERT or RoBERTa"
    ):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForQuestionAnswering.from_config(config, trust_remote_code=False)
        blocks(model)
        attention_layers(model)
    tokenizer = own.tokenizer(folder, name)
    if not tokenizer.is_fast or tokenizer.pad_token is None:
        raise ZiaError(f"the tokenizer of {name} has no padding token or no tokenizer.json")
    own.check_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings, name)


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
        The model in eval mode, the tokenizer, and the SHA-256 of every weight file by its name.

    Raises:
        ZiaError: as in `weights.located`, or the weights are not those of the encoder that
            config.json describes.
    """
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    with located(backbone) as found:
        options: dict[str, Any] = {"trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(found.folder, **options)
        if hidden_dropout is not None:
            options["hidden_dropout_prob"] = hidden_dropout
        with no_progress_bars(), no_load_report():
            model: Any
            model, report = AutoModelForQuestionAnswering.from_pretrained(
                found.folder,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, in one sentence
                **options,
            )
    _check(backbone, report)
    _draw_head(model, seed)
    return model.to(device).eval(), tokenizer, found.fingerprint()


def _check(backbone: Source, report: dict[str, Any]) -> None:
    misfits = {
        "lacks": [name for name in report["missing_keys"] if not name.startswith(f"{HEAD}.")],
        "has too much": [
            name for name in report["unexpected_keys"] if not _LEFT_BEHIND.fullmatch(name)
        ],
        "has in another shape": [
            name for name, *_ in report["mismatched_keys"] if not name.startswith(f"{HEAD}.")
        ],
    }
    for fault, names in misfits.items():
        if names:
            raise ZiaError(
                f"the weights of {backbone.name} are not those of the encoder in its config.json: "
                f"the file {fault}: {_few(names)}; {backbone.howto or 'fetch both again'}"
            )


def _few(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return first + (f" and {len(others)} more" if others else "")


def _draw_head(model: Any, seed: int) -> None:
    """Draw it from its own generator, so that it depends on no other draw and no library."""
    import torch

    head = getattr(model, HEAD)
    weight = torch.empty(head.weight.shape).normal_(
        std=model.config.initializer_range, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()
