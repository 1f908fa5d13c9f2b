import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments.alpaca_llama.data import Record
from experiments.alpaca_llama.examples import encode, prompts
from experiments.alpaca_llama.settings import Settings
from experiments.language.alpaca_prompt import prompt_text
from experiments.language.examples import Examples
from experiments.language.tokens import prompt_ids
from experiments.training.optimisation import bucket
from tests.language.tokenizers_by_hand import byte_level, sentencepiece
from zia_core.errors import ZiaError
from zia_core.losses import label_index

RECORDS = [
    Record(5, "Say a word.", "", "the word"),
    Record(7, "List.", "the things", "- the\n- a thing"),
    Record(9, "Say nothing.", "", ""),
]
KINDS = [byte_level, sentencepiece]


def examples(records: list[Record] = RECORDS, max_length: int = 1000) -> Examples:
    return encode(records, byte_level(), max_length)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_the_response_and_eos(kind: type) -> None:
    tokenizer: PreTrainedTokenizerFast = kind()
    dataset, cut = encode(RECORDS, tokenizer, 1000)
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
    assert cut == 0


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_chat_labels_are_the_response_and_the_end_of_the_turn(kind: type) -> None:
    tokenizer: PreTrainedTokenizerFast = kind()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    dataset, _ = encode(RECORDS, tokenizer, 1000, "chat")
    batch = dataset.batch([0, 1, 2])
    for row, record in enumerate(RECORDS):
        asked = record.instruction + (f"\n\n{record.input}" if record.input else "")
        messages = [{"role": "user", "content": asked}]
        messages.append({"role": "assistant", "content": record.output})
        whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        assert ids[: dataset.length(row)].tolist() == whole["input_ids"]
        learned = labels[labels != -100].tolist()
        assert tokenizer.decode(learned).strip() == f"{record.output}<|end|>"
    assert prompts(RECORDS[1:2], "chat") == ["List.\n\nthe things"]


def test_compiled_runs_pad_to_few_widths() -> None:
    dataset = examples()
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


def test_a_long_example_is_cut_and_counted() -> None:
    whole = examples()
    limit = whole.length(0) - 1  # the first loses its EOS, the third fits
    cut, count = encode([RECORDS[0], RECORDS[2]], byte_level(), limit)
    assert (count, cut.length(0), cut.length(1)) == (1, limit, whole.length(2))
    ids = cut.batch([0])["input_ids"][0]
    assert torch.equal(ids, whole.batch([0])["input_ids"][0][:limit])
    assert 2 not in ids
    assert cut.labels(0) == whole.labels(0) - 1


def test_an_example_without_any_label_is_left_out() -> None:
    whole = examples()
    prompt = whole.length(1) - whole.labels(1)
    left = examples(RECORDS, prompt)
    assert [left.record_id(i) for i in range(len(left))] == ["5", "9"]
    one_label = examples(RECORDS, prompt + 1)
    assert (len(one_label), one_label.labels(1)) == (3, 1)


def test_a_length_that_no_response_fits_is_refused() -> None:
    with pytest.raises(ZiaError, match="max_length 10 leaves no room for a response"):
        examples(max_length=10)
