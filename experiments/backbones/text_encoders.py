"""Text encoders of BERT's and RoBERTa's kind with a new head for question answering."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.backbones.language_models import Backbone, no_progress_bars, one_sentence, source
from experiments.harness.provenance import weights_fingerprint
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "qa_outputs"
# What a checkpoint may have besides the encoder: heads of the tasks it was trained on, a pooler,
# which span prediction does not use, and a constant that old checkpoints store.
_LEFT_BEHIND = re.compile(
    r"(cls|lm_head|classifier|score|qa_outputs)\..*|(\w+\.)?(pooler\..*|embeddings\.position_ids)"
)


def load_for_question_answering(
    backbone: Backbone,
    dtype: "torch.dtype",
    device: str,
    *,
    seed: int,
    hidden_dropout: float | None = None,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", dict[str, str]]:
    """Load an encoder and put a new head [C, 2] on it: the logits of start and end.

    Args:
        backbone: one of `backbones.BACKBONES` with an encoder.
        dtype: of all weights.
        device: where they go.
        seed: of the head, drawn as the encoder's own weights once were: N(0, initializer_range^2),
            and zero for its bias. A head in the checkpoint is not used.
        hidden_dropout: in place of the encoder's own on its hidden states.

    Returns:
        The model in eval mode, the tokenizer, and the SHA-256 of every weight file by its name.

    Raises:
        ZiaError: the weights are neither here nor to be had from the hub, are damaged, or are not
            those of the encoder that config.json describes.
    """
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    with one_sentence(backbone):
        where, options, files = source(backbone)
        options = options | {"trust_remote_code": False}  # nor asked about
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if hidden_dropout is not None:
            options = options | {"hidden_dropout_prob": hidden_dropout}
        with no_progress_bars(), _no_report():
            model: Any
            model, report = AutoModelForQuestionAnswering.from_pretrained(
                where,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, in one sentence
                **options,
            )
    _check(backbone, report)
    _draw_head(model, seed)
    return model.to(device).eval(), tokenizer, weights_fingerprint(files)


def _check(backbone: Backbone, report: dict[str, Any]) -> None:
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
    """From a generator of its own, so that it depends on no other draw, and on no library's."""
    import torch

    head = getattr(model, HEAD)
    weight = torch.empty(head.weight.shape).normal_(
        std=model.config.initializer_range, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()


@contextmanager
def _no_report() -> Iterator[None]:
    """The library's table of missing and unexpected weights: here it is an error or nothing."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
