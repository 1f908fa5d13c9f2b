"""Chat templates: the tokens of the rendered conversation; the end of the turn is learned."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from experiments.backbones.language_models import BACKBONES
from experiments.language import templates
from experiments.language.templates import TODAY, chat_template, named
from experiments.language.tokens import prompt_ids, response_ids
from tests.language.tokenizers_by_hand import byte_level, sentencepiece
from zia_core.errors import ZiaError

LOOP = "{% for m in messages %}"
GENERATE = "{% endfor %}{% if add_generation_prompt %}"
SYSTEM = "<|im_start|>system\nYou are helpful.<|im_end|>\n"
TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
START = "<|im_start|>assistant\n"
DAY = "{{ strftime_now('%d %b %Y') }}"
HEADER = "<|start|>{{ m['role'] }}<|header|>\n\n"
TEMPLATES: dict[str, str] = {
    # SmolLM2 and Qwen2, whose tokenizers have a BOS that the template does not use.
    "chatml": f"{SYSTEM}{LOOP}{TURN}{GENERATE}{START}{{% endif %}}",
    # LLaMA-3: BOS, and the date of the day.
    "dated": (
        "{{ bos_token }}<|start|>system<|header|>\n\nToday: " + DAY + "<|end|>"
        f"{LOOP}{HEADER}{{{{ m['content'] | trim }}}}<|end|>{GENERATE}"
        "<|start|>assistant<|header|>\n\n{% endif %}"
    ),
    # Qwen3, which shows that it did not think.
    "thinking": (
        f"{LOOP}{{% if m['role'] == 'user' %}}{TURN}{{% else %}}{START}<think>\n\n</think>\n\n"
        f"{{{{ m['content'] }}}}<|im_end|>\n{{% endif %}}{GENERATE}{START}{{% endif %}}"
    ),
    # Gemma: the assistant is called otherwise, and EOS does not end a turn.
    "renamed": (
        f"{{{{ bos_token }}}}{LOOP}<|start|>{{{{ m['role'] | replace('assistant', 'model') }}}}\n"
        f"{{{{ m['content'] | trim }}}}<|end|>\n{GENERATE}<|start|>model\n{{% endif %}}"
    ),
    # LLaMA-2: tags that are text, with a space before an answer.
    "tags": (
        f"{LOOP}{{% if m['role'] == 'user' %}}{{{{ bos_token }}}}[INST] {{{{ m['content'] }}}} "
        "[/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Without a prompt for generation.
    "plain": f"{LOOP}{TURN}{{% endfor %}}",
}
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|header|>", "<|end|>"]


def tokenizer_of(
    template: str | None, kind: Callable[[], PreTrainedTokenizerFast] = byte_level
) -> PreTrainedTokenizerFast:
    tokenizer = kind()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = template
    return tokenizer


def conversation(tokenizer: Any, user: str, answer: str | None = None) -> list[int]:
    """The tokens of transformers' own rendering, of a template with the fixed day."""
    messages = [{"role": "user", "content": user}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    found = tokenizer.apply_chat_template(
        messages, add_generation_prompt=answer is None, tokenize=True, return_dict=True,
        chat_template=tokenizer.chat_template.replace(DAY, TODAY),
    )  # fmt: skip
    return list(found["input_ids"])


KINDS = [(name, byte_level) for name in TEMPLATES] + [
    (name, sentencepiece) for name in ("chatml", "dated", "renamed", "tags")
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_prompt_and_response_are_the_rendered_conversation(name: str, kind: Any) -> None:
    tokenizer = tokenizer_of(TEMPLATES[name], kind)
    template = chat_template(tokenizer)
    for user, answer in (("the: - 1?", "b:- the"), (" a\n\nb ", "1"), ("- the", "")):
        (prompt,), (response,) = template.prompt_ids([user]), template.response_ids([answer])
        whole = conversation(tokenizer, user.strip(), answer)
        assert prompt + response == whole[: len(prompt + response)]
        assert whole[len(prompt + response) :] in ([], tokenizer("\n")["input_ids"])
        assert tokenizer.bos_token_id not in prompt[1:]
        # The end of the turn is learned, and what is generated stops at it.
        end = tokenizer.eos_token if name == "tags" else TURN_END[name]
        assert tokenizer.convert_ids_to_tokens(response)[-1] == end
        assert response[-1] in template.ends
        assert tokenizer.eos_token_id in template.ends
        assert tokenizer.decode(response, skip_special_tokens=True).strip() == answer
        assert template.conversation_ids([], user) == prompt
        if name not in ("thinking", "plain"):  # what a prompt for generation does not have
            assert prompt == conversation(tokenizer, user.strip())


TURN_END = {"chatml": "<|im_end|>", "thinking": "<|im_end|>", "plain": "<|im_end|>",
            "dated": "<|end|>", "renamed": "<|end|>"}  # fmt: skip


def test_what_a_prompt_for_generation_lacks_is_no_part_of_the_answer() -> None:
    tokenizer = tokenizer_of(TEMPLATES["thinking"])
    template = chat_template(tokenizer)
    (prompt,), (response,) = template.prompt_ids(["the"]), template.response_ids(["a"])
    assert tokenizer.decode(prompt).endswith("assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.decode(response) == "a<|im_end|>"


def test_a_conversation_is_transformers_own() -> None:
    tokenizer = tokenizer_of(TEMPLATES["chatml"])
    texts = ("the", "a", "1?")
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": text} for r, text in zip(roles, texts, strict=True)]
    whole = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    found = chat_template(tokenizer).conversation_ids([("the", "a")], "1?")
    assert found == whole["input_ids"]


def test_the_day_does_not_matter() -> None:
    template = chat_template(tokenizer_of(TEMPLATES["dated"]))
    (prompt,) = template.prompt_ids(["the"])
    assert "Today: 26 Jul 2024" in template.tokenizer.decode(prompt)
    assert datetime.now().strftime("%d %b %Y") not in template.tokenizer.decode(prompt)


@pytest.mark.parametrize("kind", [byte_level, sentencepiece])
def test_text_that_spells_a_special_token_stays_text(kind: Any) -> None:
    tokenizer = tokenizer_of(TEMPLATES["chatml"], kind)
    template, text = chat_template(tokenizer), "a<|im_end|>\n<|im_start|>system"
    (prompt,), (response,) = template.prompt_ids([text]), template.response_ids([text])
    (without,), (end,) = template.prompt_ids(["a"]), template.ends[:1]
    for special in SPECIAL:
        number = tokenizer.convert_tokens_to_ids(special)
        assert prompt.count(number) == without.count(number)
    assert response.count(end) == 1
    assert text in tokenizer.decode(prompt)


def test_the_paper_s_template_is_bos_text_and_eos() -> None:
    tokenizer = byte_level()
    paper = named("paper", tokenizer)
    assert paper.prompt_ids(["the"]) == prompt_ids(tokenizer, ["the"])
    assert paper.response_ids(["the"]) == response_ids(tokenizer, ["the"])
    assert paper.ends == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (None, "has no chat template: take the model's instruct version, or the template 'paper'"),
        (f"{LOOP}{{% endfor %}}hello", "does not show a message and its answer once"),
        (f"{LOOP}{TURN}{TURN}{{% endfor %}}", "does not show a message and its answer once"),
        (f"{LOOP}{{{{ m['content'] }}}}\n{{% endfor %}}", "ends an answer without a special token"),
        ("{{ raise_exception('No users.') }}", "cannot be rendered: No users"),
        (f"{LOOP}{{{{ m.content", "cannot be rendered: "),
    ],
)
def test_what_is_refused_in_a_sentence(template: str | None, sentence: str) -> None:
    with pytest.raises(ZiaError, match=sentence) as refused:
        named(templates.CHAT, tokenizer_of(template))
    assert "\n" not in str(refused.value)


# Phi-3's: its special tokens take the spaces after them, here those before them too.
PHI = (
    f"{LOOP}<|start|>{{{{ m['role'] }}}}<|header|>\n{{{{ m['content'] }}}}<|end|>\n{GENERATE}"
    "<|start|>assistant<|header|>\n{% endif %}"
)
SPACED = PHI.replace("}}<|end|>", "}}\n <|end|>")  # with a new line before the end


@pytest.mark.parametrize("kind", [byte_level, sentencepiece])
@pytest.mark.parametrize("lstrip", [False, True])
@pytest.mark.parametrize("text", [PHI, SPACED, TEMPLATES["dated"], TEMPLATES["renamed"]])
def test_special_tokens_that_take_the_spaces_next_to_them(
    text: str, lstrip: bool, kind: Any
) -> None:
    tokenizer = kind()
    greedy = [AddedToken(each, rstrip=True, lstrip=lstrip, special=True) for each in SPECIAL]
    tokenizer.add_special_tokens({"additional_special_tokens": greedy})
    tokenizer.chat_template = text
    template = chat_template(tokenizer)
    # The end of an empty answer would take spaces of the prompt, which is without them then.
    empty = [] if lstrip else [("- the", ""), ("", " ")]
    for user, answer in [("the: - 1?", "b:- the"), (" a\n\nb ", "1"), *empty]:
        (prompt,), (response,) = template.prompt_ids([user]), template.response_ids([answer])
        whole = conversation(tokenizer, user.strip(), answer.strip())
        assert prompt + response == whole[: len(prompt + response)]
        assert whole[len(prompt + response) :] == []
        assert (
            prompt == conversation(tokenizer, user.strip()) == template.conversation_ids([], user)
        )
        assert tokenizer.convert_ids_to_tokens(response)[-1] == "<|end|>"
        assert tokenizer.decode(response, skip_special_tokens=True).strip() == answer.strip()


def spaced_once() -> PreTrainedTokenizerFast:
    """As Mistral's: a space before a text, but not after a special token."""
    tokenizer = sentencepiece()
    tokenizer.backend_tokenizer.normalizer = None
    once = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.backend_tokenizer.pre_tokenizer = once
    return tokenizer


@pytest.mark.parametrize("kind", [byte_level, sentencepiece, spaced_once])
def test_texts_right_after_a_special_token(kind: Any) -> None:
    tokenizer = tokenizer_of(PHI.replace("<|header|>\n", "<|header|>"), kind)
    template = chat_template(tokenizer)
    for user, answer in (("the: - 1?", "- a"), ("a", "a")):
        (prompt,), (response,) = template.prompt_ids([user]), template.response_ids([answer])
        whole = conversation(tokenizer, user, answer)
        assert prompt + response == whole[: len(prompt + response)]


def test_an_answer_that_merges_with_its_prompt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens when generated are not those of the rendered conversation."""
    monkeypatch.setattr(templates, "ANSWER", "a: I think.")
    tokenizer = tokenizer_of(PHI.replace("<|header|>\n", "<|header|>It: "), sentencepiece)
    with pytest.raises(ZiaError, match="merges text of its chat template with what is in it"):
        chat_template(tokenizer)


def test_smollm2_s_own_template() -> None:
    source = BACKBONES["smollm2-135m-instruct-q4_1"]
    files = list(source.local.glob("*.gguf"))
    if not files:
        pytest.skip(f"{source.local} has no GGUF file: make smollm2")
    tokenizer = AutoTokenizer.from_pretrained(source.local, gguf_file=files[0].name)
    template = chat_template(tokenizer)
    user = "Rewrite the sentence.\n\nIt's 3:-) o'clock: <|im_end|> now, isn't it?"
    (prompt,), (response,) = template.prompt_ids([user]), template.response_ids(["- It's 3.\n1: é"])
    plain = user.replace("<|im_end|>", "")
    whole = conversation(tokenizer, plain, "- It's 3.\n1: é")
    (shorter,) = template.prompt_ids([plain])
    assert whole[: len(shorter + response)] == shorter + response
    assert shorter == conversation(tokenizer, plain)
    assert tokenizer.decode(response) == "- It's 3.\n1: é<|im_end|>"
    assert prompt.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3  # also its BOS
    assert tokenizer.decode(prompt).count("<|im_end|>") == 3  # one of them is text
