"""The world's tokenizer: byte-level BPE without a leading space, mostly one token per word.

Both language backbones use it. Special tokens and their order are RoBERTa's, and so is the format
of text pairs; for a language model, the caller adds <s> and </s>.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
MAX_TOKENS = 4096  # not reached: merging ends when every word is one token
BATCH = 2000  # texts per call of the tokenizer


def train_tokenizer(texts: Iterable[str], max_length: int) -> "PreTrainedTokenizerFast":
    """Learn merges from the texts; words that occur once stay in pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_TOKENS,
        min_frequency=2,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos, eos = SPECIAL["bos"], SPECIAL["eos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (bos, eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        cls_token=SPECIAL["bos"],
        sep_token=SPECIAL["eos"],
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    )


def encoded(
    tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str]
) -> tuple["Tensor", list[int]]:
    """The tokens of all texts in sequence, [N] int16, and the number of each text's."""
    import numpy as np
    import torch

    # The tokenizer itself would compute much more than the ids.
    backend, rest = tokenizer.backend_tokenizer, iter(texts)
    ids: list[Any] = []
    while batch := list(islice(rest, BATCH)):
        ids += [np.array(each.ids, dtype=np.int16) for each in backend.encode_batch_fast(batch)]
    return torch.from_numpy(np.concatenate(ids)), list(map(len, ids))
