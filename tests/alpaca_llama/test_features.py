from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments.alpaca_llama.data import Record
from experiments.alpaca_llama.features import (
    InstructionDataset,
    prompt_ids,
    response_ids,
    tokenised,
)
from experiments.alpaca_llama.settings import Settings
from experiments.alpaca_llama.templates import prompt_text
from experiments.training.optimisation import bucket
from tests.alpaca_llama.tokenizers_by_hand import byte_level, sentencepiece
from zia_core.errors import ZiaError
from zia_core.losses import label_index

RECORDS = [
    Record(5, "Say a word.", "", "the word"),
    Record(7, "List.", "the things", "- the\n- a thing"),
    Record(9, "Say nothing.", "", ""),
]
KINDS = [byte_level, sentencepiece]


def examples(
    folder: Path, records: list[Record] = RECORDS, max_length: int = 1000
) -> InstructionDataset:
    return tokenised(records, byte_level(), max_length, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_the_response_and_eos(tmp_path: Path, kind: type) -> None:
    tokenizer: PreTrainedTokenizerFast = kind()
    dataset = tokenised(RECORDS, tokenizer, 1000, tmp_path)
    batch = dataset.batch([0, 1, 2])
    assert {key: value.dtype for key, value in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels", "label_index"), torch.int64
    )
    assert torch.equal(batch["label_index"], label_index(batch["labels"]))
    for row, record in enumerate(RECORDS):
        ids, mask, labels = (batch[key][row] for key in ("input_ids", "attention_mask", "labels"))
        length, labelled = dataset.length(row), labels != -100
        assert mask.tolist() == [1] * length + [0] * (len(ids) - length)
        assert torch.equal(ids[labelled], labels[labelled])
        assert int(labelled.sum()) == dataset.labels(row)
        response = labels[labelled].tolist()
        assert response[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(response[:-1]) == record.output
        prompt = ids[:length][~labelled[:length]].tolist()
        assert prompt == prompt_ids(tokenizer, [prompt_text(record)])[0]
        assert ids[:length].tolist() == prompt + response
        assert dataset.record_id(row) == str(record.id)
    assert max(dataset.length(i) for i in range(3)) == batch["input_ids"].shape[1]
    assert dataset.truncated == 0


def test_compiled_runs_pad_to_few_widths(tmp_path: Path) -> None:
    dataset = examples(tmp_path)
    plain = dataset.batch([0, 1])
    dataset.multiple = bucket(Settings(compile=True))
    assert bucket(Settings()) == 1
    wide = dataset.batch([0, 1])
    width = plain["input_ids"].shape[1]
    assert width % 64
    assert wide["input_ids"].shape[1] == -(-width // 64) * 64
    assert (wide["labels"] != -100).sum() == (plain["labels"] != -100).sum()
    assert torch.equal(wide["attention_mask"].sum(1), plain["attention_mask"].sum(1))
    assert torch.equal(wide["label_index"], label_index(wide["labels"]))


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


def test_a_long_example_is_cut_and_counted(tmp_path: Path) -> None:
    whole = examples(tmp_path)
    limit = whole.length(0) - 1  # the first loses its EOS, the third fits
    cut = examples(tmp_path, [RECORDS[0], RECORDS[2]], limit)
    assert (cut.truncated, cut.length(0), cut.length(1)) == (1, limit, whole.length(2))
    ids = cut.batch([0])["input_ids"][0]
    assert torch.equal(ids, whole.batch([0])["input_ids"][0][:limit])
    assert 2 not in ids
    assert cut.labels(0) == whole.labels(0) - 1


def test_an_example_without_any_label_is_left_out(tmp_path: Path) -> None:
    whole = examples(tmp_path)
    prompt = whole.length(1) - whole.labels(1)
    left = examples(tmp_path, RECORDS, prompt)
    assert [left.record_id(i) for i in range(len(left))] == ["5", "9"]
    one_label = examples(tmp_path, RECORDS, prompt + 1)
    assert (len(one_label), one_label.labels(1)) == (3, 1)


def test_a_length_that_no_response_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="max_length 10 leaves no room for a response"):
        examples(tmp_path, max_length=10)


def test_the_cache_is_used_for_the_same_tokens_only(tmp_path: Path) -> None:
    def stored() -> int:
        return len(list(tmp_path.iterdir()))

    first = examples(tmp_path).batch([0, 1])
    again = examples(tmp_path).batch([0, 1])
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert stored() == 1
    examples(tmp_path, max_length=999)
    examples(tmp_path, RECORDS[:2])
    tokenised(RECORDS, byte_level(None), 1000, tmp_path)
    tokenised(RECORDS, sentencepiece(), 1000, tmp_path)
    assert stored() == 5


def test_more_records_than_a_call_of_the_tokenizer_stay_in_order(tmp_path: Path) -> None:
    records = [Record(i, f"Count {i}.", "", str(i)) for i in range(2100)]
    dataset = examples(tmp_path, records)
    assert [dataset.record_id(i) for i in range(2100)] == [str(i) for i in range(2100)]
    labels = dataset.batch([2050])["labels"][0]
    assert byte_level().decode(labels[labels >= 0][:-1]) == "2050"


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(ZiaError, match="needs a fast tokenizer that has an EOS token"):
        tokenised(RECORDS, tokenizer, 1000, tmp_path)
