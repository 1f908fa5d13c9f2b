from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from experiments.squad_roberta.windows import (
    Frame,
    Tokens,
    Window,
    WindowSettings,
    frame_of,
    tokens_of,
    window_starts,
    windows_of,
)
from tests.language.tokenizers_by_hand import byte_level
from tests.squad_roberta.tokenizers_by_hand import bert, roberta
from tests.squad_roberta.world import DENVER, PARIS
from zia_core.errors import ZiaError

Kind = Callable[[], PreTrainedTokenizerFast]
KINDS = [bert, roberta]
SMALL = WindowSettings(max_length=40, stride=8, max_question=12)
LONG = f"{DENVER} {PARIS}  {DENVER}\n{PARIS}"
ASKED = "Where was it?"


def made(
    kind: Kind,
    context: str = LONG,
    answer: tuple[int, int] | None = None,
    settings: WindowSettings = SMALL,
    asked: str = ASKED,
) -> list[Window]:
    tokenizer = kind()
    question, tokens = tokens_of(tokenizer, [asked, context])
    return windows_of(question, tokens, answer, frame_of(tokenizer), settings)


def test_a_frame_is_what_the_tokenizer_puts_around_a_pair() -> None:
    assert frame_of(bert()) == Frame([2], [3], [3], (0, 1))
    assert frame_of(roberta()) == Frame([0], [2, 2], [2], (0, 0))


def test_other_kinds_of_tokenizer_are_refused() -> None:
    with pytest.raises(ZiaError, match="needs a fast tokenizer that has a padding token"):
        frame_of(byte_level())
    tokenizer = byte_level()
    tokenizer.pad_token = "</s>"
    with pytest.raises(ZiaError, match="does not begin a pair of texts with its CLS token"):
        frame_of(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [LONG, DENVER, "Short."])
@pytest.mark.parametrize(("length", "stride"), [(40, 8), (40, 0), (64, 33), (500, 128)])
def test_windows_are_those_of_the_tokenizer_itself(
    kind: Kind, context: str, length: int, stride: int
) -> None:
    tokenizer = kind()
    asked = ASKED if length > 40 else "Who?"
    expected = tokenizer(
        asked,
        context,
        max_length=length,
        stride=stride,
        truncation="only_second",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = made(kind, context, settings=WindowSettings(length, stride), asked=asked)
    assert [window.ids for window in windows] == expected["input_ids"]
    for i, window in enumerate(windows):
        texts = expected.sequence_ids(i)
        assert window.context_at == texts.index(1)
        offsets = [o for o, text in zip(expected["offset_mapping"][i], texts, strict=True) if text]
        for mine, theirs in zip(zip(window.starts, window.ends, strict=True), offsets, strict=True):
            # Of a token that is all space, nothing is left here.
            assert mine == theirs or context[slice(*theirs)].strip() == context[slice(*mine)] == ""


def test_the_space_before_a_word_is_not_part_of_it() -> None:
    tokenizer = roberta()
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), False)
    [tokens] = tokens_of(tokenizer, ["the a the"])
    assert list(zip(tokens.starts, tokens.ends, strict=True)) == [(0, 3), (4, 5), (6, 9)]


@pytest.mark.parametrize(
    ("tokens", "starts"),
    [(0, [0]), (3, [0]), (10, [0]), (11, [0, 7]), (17, [0, 7]), (18, [0, 7, 14])],
)
def test_windows_overlap_by_the_stride_and_end_with_the_text(
    tokens: int, starts: list[int]
) -> None:
    assert window_starts(tokens, room=10, stride=3) == starts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["Denver Broncos", "Élise", "café", "May 1990", "The", "24"])
def test_a_label_holds_the_answer_whole_or_is_cls(kind: Kind, answer: str) -> None:
    start = LONG.rindex(answer)
    end = start + len(answer)
    labels = []
    for window in made(kind, LONG, (start, end)):
        first, last = window.label
        labels.append(first > 0)
        if first > 0:
            tokens = slice(first - window.context_at, last + 1 - window.context_at)
            starts, ends = window.starts[tokens], window.ends[tokens]
            # "€24" is one token of the WordPiece tokenizer.
            assert LONG[starts[0] : ends[-1]].removeprefix("€") == answer
            # No token of the answer is left outside: É has two in byte-level BPE.
            inside = (window.ends > start) & (window.starts < end)
            assert tokens.stop - tokens.start == int(inside.sum())
        else:
            assert (first, last) == (0, 0)
            assert not (window.starts[0] <= start and end <= window.ends[-1])
    assert True in labels
    assert False in labels


def test_an_answer_cut_by_a_window_s_edge_is_no_answer_there() -> None:
    # Five tokens of one character each; windows of 4 with 2 shared: [0, 4) and [2, 6).
    characters = np.arange(6, dtype=np.int32)
    context = Tokens(characters, characters, characters + 1)
    frame = Frame([7], [7], [7], (0, 0))
    question = Tokens(*(np.zeros(1, dtype=np.int32) for _ in range(3)))

    def labels(start: int, end: int) -> list[tuple[int, int]]:
        settings = WindowSettings(max_length=8, stride=2)
        windows = windows_of(question, context, (start, end), frame, settings)
        return [window.label for window in windows]

    assert labels(0, 1) == [(3, 3), (0, 0)]
    assert labels(1, 4) == [(4, 6), (0, 0)]
    assert labels(2, 4) == [(5, 6), (3, 4)]
    assert labels(3, 5) == [(0, 0), (4, 5)]
    assert labels(1, 5) == [(0, 0), (0, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_answer_every_label_is_cls(kind: Kind) -> None:
    assert {window.label for window in made(kind)} == {(0, 0)}


def test_an_answer_without_tokens_has_no_label() -> None:
    context = "one \x01 two"  # BERT's normaliser drops the control character
    assert [window.label for window in made(bert, context, (4, 5))] == [(-100, -100)]


def test_a_context_without_tokens_has_one_window() -> None:
    [window] = made(bert, "\x01", None)
    assert (len(window.starts), window.label) == (0, (0, 0))
    assert len(window.ids) == window.context_at + 1


def test_text_that_spells_a_special_token_stays_text() -> None:
    [window] = made(bert, "a [SEP] b", settings=WindowSettings())
    assert window.ids.count(3) == 2
    [window] = made(roberta, "a </s> b", settings=WindowSettings())
    assert window.ids.count(2) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_question_is_cut(kind: Kind) -> None:
    whole = tokens_of(kind(), ["what is it " * 9])[0].ids
    windows = made(kind, asked="what is it " * 9)
    for window in windows:
        assert window.context_at == frame_of(kind()).size - 1 + SMALL.max_question
        assert window.ids[1 : 1 + SMALL.max_question] == whole[: SMALL.max_question].tolist()
        assert len(window.ids) <= SMALL.max_length


def test_a_length_without_room_is_refused() -> None:
    with pytest.raises(ZiaError, match=r"max_length 22 leaves 8 tokens .* stride of 8: raise"):
        made(bert, settings=WindowSettings(22, 8, 12))
    assert made(bert, settings=WindowSettings(23, 8, 12))
