"""Two small real tokenizers that merge ":" with "-", as LLaMA's and SmolLM2's do."""

import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MERGES = [(":", "-"), ("t", "h"), ("th", "e")]


def byte_level(bos: str | None = "<s>") -> PreTrainedTokenizerFast:
    """Byte-level BPE without a space before a text, as SmolLM2's."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = _bpe(symbols, MERGES, byte_fallback=False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _wrapped(tokenizer, bos)


def sentencepiece(*, new_line: bool = False) -> PreTrainedTokenizerFast:
    """BPE with a space before every text, as LLaMA's; `new_line` adds a merge that LLaMA lacks."""
    symbols = [*string.ascii_letters, *string.digits, *string.punctuation, "▁"]
    if new_line:
        symbols.append("\n")
    merges = [*MERGES, ("▁", "a"), *([("\n", "a")] if new_line else [])]
    tokenizer = _bpe(
        [f"<0x{byte:02X}>" for byte in range(256)] + symbols, merges, byte_fallback=True
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return _wrapped(tokenizer, "<s>")


def _bpe(symbols: list[str], merges: list[tuple[str, str]], *, byte_fallback: bool) -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *symbols, *("".join(merge) for merge in merges)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=byte_fallback)
    return Tokenizer(model)


def _wrapped(tokenizer: Tokenizer, bos: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token=bos, eos_token="</s>"
    )
