from experiments.alpaca_llama.data import Record
from experiments.language.alpaca_prompt import prompt_text


def test_a_prompt_without_input_is_the_paper_s_to_the_character() -> None:
    record = Record(0, "Say hello.", "", "Hello.")
    assert prompt_text(record) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay hello.\n\n### Response:"
    )


def test_a_prompt_with_input_is_the_paper_s_to_the_character() -> None:
    record = Record(0, "Translate.", "Hello.", "Bonjour.")
    assert prompt_text(record) == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nTranslate.\n\n### Input:\nHello.\n\n### Response:"
    )


def test_braces_in_a_record_are_text() -> None:
    record = Record(0, "Print {input} and {0}.", "{instruction}", "")
    assert "\nPrint {input} and {0}.\n" in prompt_text(record)
    assert "\n{instruction}\n" in prompt_text(record)
