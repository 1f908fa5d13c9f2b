"""Prompts and responses as tokens: in the paper's format, or in a chat model's own template.

`apply_chat_template` renders the user's message and an answer once, around two markers. A prompt is
what stands before the answer; a response is the answer and the token that ends the turn, and both
have the tokens of the rendered conversation. Nothing is added, so BOS is there once, if at all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

from experiments.language.tokens import continuation_ids, plain_ids, prompt_ids, response_ids
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAPER, CHAT = TEMPLATES = ("paper", "chat")
# Some templates tell the date, on which no number may depend; this one is LLaMA-3.1's default.
TODAY = "26 Jul 2024"
ANY_DAY = f"{{% macro strftime_now(format) %}}{TODAY}{{% endmacro %}}{{{{ '' }}}}"
USER, ANSWER = "Which is it, 1 or 2?", "It is: 1, I think."


class Template(Protocol):
    """How prompts and responses become tokens."""

    @property
    def ends(self) -> list[int]:
        """The tokens at which an answer ends."""

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each prompt."""

    def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each response, with the one that ends it."""


def named(name: str, tokenizer: "PreTrainedTokenizerBase") -> Template:
    """The template `name` of `TEMPLATES`; ZiaError if it is CHAT and the tokenizer has none."""
    return PaperTemplate(tokenizer) if name == PAPER else chat_template(tokenizer)


@dataclass(frozen=True)
class PaperTemplate:
    """The text of a prompt after BOS, and of a response before EOS."""

    tokenizer: "PreTrainedTokenizerBase"

    @property
    def ends(self) -> list[int]:
        """EOS."""
        return [int(self.tokenizer.eos_token_id)]

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """BOS and the text."""
        return prompt_ids(self.tokenizer, texts)

    def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The text and EOS."""
        return response_ids(self.tokenizer, texts)


@dataclass(frozen=True)
class Slot:
    """Where a text goes between two special tokens.

    Attributes:
        before, after: plain text around it.
        strips: whether the token before and the token after take the spaces next to them, as some
            of Phi-3's do.
        continues: whether the text is tokenised as a continuation: no space is put before it.
    """

    before: str
    after: str
    strips: tuple[bool, bool]
    continues: bool

    def ids(self, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
        """The tokens between the two special ones for each text."""
        ids_of = continuation_ids if self.continues else plain_ids
        return ids_of(tokenizer, [self._filled(text) for text in texts])

    def _filled(self, text: str) -> str:
        found = f"{self.before}{text.strip()}{self.after}"
        found = found.lstrip() if self.strips[0] else found
        return found.rstrip() if self.strips[1] else found


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's own chat template, with the prompt's text as the user's only message."""

    tokenizer: "PreTrainedTokenizerBase"
    opening: list[int]  # up to the last special token before the message
    message: Slot
    closing: list[int]  # from there to the answer
    answer: Slot
    end: int

    @property
    def ends(self) -> list[int]:
        """The end of a turn, and EOS where that is another token."""
        eos = self.tokenizer.eos_token_id
        return [self.end] if eos in (None, self.end) else [self.end, int(eos)]

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The conversation up to the answer. Text that spells a special token stays text."""
        found = self.message.ids(self.tokenizer, texts)
        return [[*self.opening, *ids, *self.closing] for ids in found]

    def response_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The answer and the end of the turn."""
        return [[*ids, self.end] for ids in self.answer.ids(self.tokenizer, texts)]

    def conversation_ids(self, turns: Sequence[tuple[str, str]], prompt: str) -> list[int]:
        """A conversation of prompts and answers, up to the answer to the last prompt."""
        whole = _rendered(self.tokenizer, [*turns, (prompt.strip(), ANSWER)])
        return _ids(self.tokenizer, whole[: whole.rindex(ANSWER)].removesuffix(self.answer.before))


def chat_template(tokenizer: "PreTrainedTokenizerBase") -> ChatTemplate:
    """The chat template of a tokenizer.

    Raises:
        ZiaError: it has none, or one whose prompts and answers cannot be told apart.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ZiaError(
            f"the tokenizer {name} has no chat template: take the model's instruct version, or "
            f"the template {PAPER!r}"
        )
    asked, whole = _rendered(tokenizer, [(USER, None)]), _rendered(tokenizer, [(USER, ANSWER)])
    start, answered, rest = whole.partition(ANSWER)
    if not answered or start.count(USER) != 1 or USER in rest or ANSWER in rest:
        raise ZiaError(f"the chat template of {name} does not show a message and its answer once")
    lead = ""
    if start.startswith(asked) and not start[len(asked) :].strip():
        start, lead = asked, start[len(asked) :]  # a space that belongs to the answer's tokens
    before, after = start.split(USER)
    special, strips = _special(tokenizer), _strips(tokenizer)
    opened, ended, closed = [*special.finditer(before)], special.search(rest), special.search(after)
    if ended is None:
        raise ZiaError(f"the chat template of {name} ends an answer without a special token")
    cut = opened[-1].end() if opened else 0
    gap = closed.start() if closed else len(after)
    opener, closer = opened[-1].group() if opened else "", closed.group() if closed else ""
    last = next((token for token in strips if token and start.rstrip().endswith(token)), "")
    around_message = strips[opener][1], strips[closer][0]
    around_answer = strips[last][1], strips[ended.group()][0]
    expected = _ids(tokenizer, whole[: len(whole) - len(rest) + ended.end()])
    # SentencePiece may or may not put a space before text that follows a special token.
    for message, answer in product((False, True), (True, False)):
        found = ChatTemplate(
            tokenizer,
            opening=_ids(tokenizer, before[:cut]),
            message=Slot(before[cut:], after[:gap], around_message, message),
            closing=_ids(tokenizer, after[gap:]),
            answer=Slot(lead, rest[: ended.start()], around_answer, answer),
            end=_ids(tokenizer, ended.group())[0],
        )
        (prompt,), (response,) = found.prompt_ids([USER]), found.response_ids([ANSWER])
        if prompt + response == expected and prompt == _ids(tokenizer, start):
            return found
    raise ZiaError(
        f"the tokenizer {name} merges text of its chat template with what is in it: such "
        f"templates are not supported; take the template {PAPER!r}"
    )


def _rendered(tokenizer: "PreTrainedTokenizerBase", turns: Sequence[tuple[str, str | None]]) -> str:
    """The conversation as text, up to an answer that is None."""
    from jinja2 import TemplateError

    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
        if text is not None
    ]
    try:
        text: Any = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=ANY_DAY + tokenizer.get_chat_template(),
            add_generation_prompt=turns[-1][1] is None,
            date_string=TODAY,
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ZiaError(
            f"the chat template of {tokenizer.name_or_path} cannot be rendered: {lines[0]:.200}"
        ) from error
    return str(text)


def _special(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    """A pattern of the special tokens; one that matches nothing if there are none."""
    added: Any = tokenizer.added_tokens_decoder.values()
    texts = sorted((each.content for each in added if each.special), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _strips(tokenizer: "PreTrainedTokenizerBase") -> dict[str, tuple[bool, bool]]:
    """Whether each special token takes the spaces before and after it; "" stands for none."""
    added: Any = tokenizer.added_tokens_decoder.values()
    return {"": (False, False)} | {
        each.content: (each.lstrip, each.rstrip) for each in added if each.special
    }


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return list(ids)
