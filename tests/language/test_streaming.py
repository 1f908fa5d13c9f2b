"""Text is streamed in whole characters that add up to the text decoded at once."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments.language.streaming import BatchStreamer, RowText
from tests.language.tokenizers_by_hand import byte_level, sentencepiece

TEXT = "  the Grüße: 日本, 🙂 the end \n  "
BOTH = pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece()], ids=["bytes", "spm"])


def pieces(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> list[tuple[str, bool]]:
    shown: list[tuple[str, bool]] = []
    row = RowText(tokenizer, lambda piece, last: shown.append((piece, last)))
    for token in tokens:
        row.put(token)
    row.end()
    return shown


@BOTH
def test_pieces_are_whole_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    shown = pieces(tokenizer, tokens)
    assert "".join(piece for piece, _ in shown) == TEXT.strip()
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece, _ in shown)
    assert [last for _, last in shown] == [False] * (len(shown) - 1) + [True]
    # A piece for each token that completes something: not all at the end.
    assert len(shown) > 15


@BOTH
def test_what_ends_within_a_character_is_shown_at_the_end(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokens = tokenizer("a 🙂", add_special_tokens=False)["input_ids"][:-1]
    shown = pieces(tokenizer, tokens)
    assert shown[0] == ("a", False)
    assert shown[-1][1]
    assert "".join(piece for piece, _ in shown) == tokenizer.decode(tokens).strip()


def test_sentencepiece_s_bytes_may_undo_what_was_shown() -> None:
    tokenizer = sentencepiece()
    tokens = tokenizer("日 a", add_special_tokens=False)["input_ids"]
    wrong = tokenizer.convert_tokens_to_ids("<0xE6>")
    # "日" and a byte that completes nothing are decoded to four times "no character".
    *text, a = tokens
    shown = pieces(tokenizer, [*text, wrong, a, a])
    assert [piece for piece, _ in shown] == ["日", "\N{REPLACEMENT CHARACTER}" * 3 + " a", " a", ""]


def test_bytes_that_are_no_text_do_not_stop_the_stream() -> None:
    tokenizer = byte_level()
    first, *_ = tokenizer("🙂", add_special_tokens=False)["input_ids"]
    shown = pieces(tokenizer, [first] * 9)
    assert [piece for piece, _ in shown] == ["\N{REPLACEMENT CHARACTER}"] * 6 + [
        "\N{REPLACEMENT CHARACTER}" * 3
    ]


def test_rows_end_on_their_own() -> None:
    tokenizer = byte_level()
    a, b, end = tokenizer.convert_tokens_to_ids(["a", "b", "</s>"])
    shown: list[tuple[int, str, bool]] = []

    def row(number: int) -> RowText:
        return RowText(tokenizer, lambda piece, last: shown.append((number, piece, last)))

    streamer = BatchStreamer([row(0), row(1)])
    streamer.put(torch.tensor([[b, b, b], [b, b, b]]))  # the prompts
    for tokens in ([a, b], [end, b], [a, end], [a, a]):
        streamer.put(torch.tensor(tokens))
    streamer.end()
    assert shown == [(0, "a", False), (1, "b", False), (0, "", True), (1, "b", False),
                     (1, "", True)]  # fmt: skip
