"""Pack a library into rows of tokens: documents in sequence, split every `width` tokens."""

from typing import TYPE_CHECKING

from experiments.mini_world.documents import Library

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

BATCH = 2000  # documents per call of the tokenizer


def token_rows(
    library: Library, documents: int, tokenizer: "PreTrainedTokenizerFast", width: int
) -> "Tensor":
    """Rows [N, width], int16, of documents between BOS and EOS, without a last incomplete row.

    A row may begin within a document; the model learns to ignore the previous one.
    """
    import numpy as np
    import torch

    # The tokenizer itself would compute much more than the ids.
    backend, parts = tokenizer.backend_tokenizer, []
    for start in range(0, documents, BATCH):
        texts = [library.document(i) for i in range(start, min(start + BATCH, documents))]
        encoded = backend.encode_batch_fast(texts)
        parts.append(np.concatenate([np.array(each.ids, dtype=np.int16) for each in encoded]))
    stream = torch.from_numpy(np.concatenate(parts))
    return stream[: len(stream) // width * width].view(-1, width)
