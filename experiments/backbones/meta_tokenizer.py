"""The tokenizer of LLaMA as Meta released it: a SentencePiece file, `tokenizer.model`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

MODEL, CONVERTED = "tokenizer.model", "tokenizer.json"
EXTRA = "pip install sentencepiece"  # the project's extra `llama`
# BEGIN and END of LLaMA-1 and 2, and of LLaMA-3, where no tokenizer_config.json names them.
ENDS = (("<s>", "</s>"), ("<|begin_of_text|>", "<|end_of_text|>"))


def load(folder: Path) -> "PreTrainedTokenizerFast":
    """Load `tokenizer.json` where it is, else convert `tokenizer.model`.

    Raises:
        ZiaError: there is neither, sentencepiece is not installed, or the file is not one of its.
    """
    from transformers import PreTrainedTokenizerFast

    if not (folder / CONVERTED).exists():
        return _converted(folder / MODEL)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    known = tokenizer.get_vocab()
    for begin, end in ENDS:
        if tokenizer.eos_token is None and begin in known and end in known:
            tokenizer.bos_token, tokenizer.eos_token = begin, end
    return tokenizer


def _converted(path: Path) -> "PreTrainedTokenizerFast":
    """The fast tokenizer with the ids of SentencePiece: every text gets a space in front."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast
    from transformers.tokenization_utils_base import generate_merges

    if not path.exists():
        raise ZiaError(f"{path.parent} lacks {path.name}: fetch it, or put {CONVERTED} there")
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ZiaError(
            f"{path} needs sentencepiece, which is not installed: run `{EXTRA}`, or put the "
            f"model's {CONVERTED} beside it"
        ) from error
    try:
        pieces = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ZiaError(
            f"{path} is not a SentencePiece file (LLaMA-3's is not): fetch it again, or put the "
            f"model's {CONVERTED} beside it"
        ) from error
    ids = range(pieces.get_piece_size())
    vocabulary = {pieces.id_to_piece(i): i for i in ids}
    special = [i for i in ids if pieces.is_control(i) or pieces.is_unknown(i)]
    scores = {
        pieces.id_to_piece(i): pieces.get_score(i)
        for i in ids
        if i not in special and not pieces.is_byte(i)
    }
    merges = generate_merges(vocabulary, scores)
    unknown = pieces.id_to_piece(pieces.unk_id())
    tokenizer = sentencepiece_bpe(vocabulary, merges, unknown)
    tokenizer.add_special_tokens(
        [AddedToken(pieces.id_to_piece(i), normalized=False, special=True) for i in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        name_or_path=str(path.parent),
        unk_token=unknown,
        bos_token=pieces.id_to_piece(pieces.bos_id()),
        eos_token=pieces.id_to_piece(pieces.eos_id()),
    )


def sentencepiece_bpe(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], unknown: str
) -> "Tokenizer":
    """SentencePiece's BPE: a space before every text, and bytes for unknown characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokenizer = Tokenizer(
        models.BPE(
            dict(vocabulary), list(merges), unk_token=unknown, fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer
