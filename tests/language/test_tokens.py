"""Prompts and responses as tokens, by tokenizers of both kinds."""

import pytest
from transformers import PreTrainedTokenizerFast

from experiments.language.tokens import prompt_ids, response_ids
from tests.language.tokenizers_by_hand import byte_level, sentencepiece
from zia_core.errors import ZiaError

KINDS = [byte_level, sentencepiece]


@pytest.mark.parametrize("kind", KINDS)
def test_a_response_continues_its_prompt_as_the_joined_text_does(kind: type) -> None:
    tokenizer: PreTrainedTokenizerFast = kind()
    for output in ("the word", "a thing", "", " the", "\nthe", "1"):
        [prompt], [response] = prompt_ids(tokenizer, ["b:"]), response_ids(tokenizer, [output])
        joined = tokenizer(f"b:{output}", add_special_tokens=False)["input_ids"]
        assert prompt + response == [1, *joined, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_keeps_its_tokens_where_the_joined_text_would_merge(kind: type) -> None:
    tokenizer: PreTrainedTokenizerFast = kind()
    [prompt], [response] = prompt_ids(tokenizer, ["b:"]), response_ids(tokenizer, ["- the"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("b:- the")["input_ids"])[-4] != ":"
    assert tokenizer.convert_ids_to_tokens(prompt)[-1] == ":"
    assert tokenizer.convert_ids_to_tokens(response)[0] == "-"
    assert tokenizer.decode(response[:-1]) == "- the"


def test_a_tokenizer_that_neither_way_suits_is_refused() -> None:
    with pytest.raises(ZiaError, match="merges a new line with the text after it"):
        response_ids(sentencepiece(new_line=True), ["b"])


def test_without_a_bos_token_there_is_none() -> None:
    with_bos, without = (prompt_ids(byte_level(bos), ["the"])[0] for bos in ("<s>", None))
    assert with_bos == [1, *without]


def test_text_that_spells_a_special_token_stays_text() -> None:
    tokenizer = byte_level()
    [ids] = response_ids(tokenizer, ["a </s> b"])
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[:-1]) == "a </s> b"


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(ZiaError, match="needs a fast tokenizer that has an EOS token"):
        response_ids(tokenizer, ["the"])


def test_more_texts_than_a_call_of_the_tokenizer_stay_in_order() -> None:
    tokenizer, numbers = byte_level(), [str(i) for i in range(2100)]
    found = response_ids(tokenizer, numbers)
    assert [tokenizer.decode(ids[:-1]) for ids in found] == numbers
