"""Pack a library into rows of tokens: documents in sequence, split every `width` tokens."""

from typing import TYPE_CHECKING

from experiments.mini_world.documents import Library
from experiments.mini_world.tokenizer import encoded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast


def token_rows(
    library: Library, documents: int, tokenizer: "PreTrainedTokenizerFast", width: int
) -> "Tensor":
    """Rows [N, width], int16, of documents between BOS and EOS, without a last incomplete row.

    A row may begin within a document; the model learns to ignore the previous one.
    """
    stream, _ = encoded(tokenizer, map(library.document, range(documents)))
    return stream[: len(stream) // width * width].view(-1, width)
