"""What `zia generate` chats with: a model that answers as one of its adapters or as several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

OWN = "run"  # the name of the run's own adapter
BACKBONE = "backbone"  # shown for None, the backbone without an adapter

# Called with an adapter, the next piece of its answer, and whether that was the last one.
Show = Callable[[str | None, str, bool], None]


@dataclass(frozen=True)
class Decoding:
    """How an answer is decoded.

    An answer depends on the conversation and on these values alone: not on what was drawn before,
    nor on which other adapters answer the same prompt.
    """

    max_new_tokens: int | None = None  # None: as many as in the run
    temperature: float = 0.0  # 0: greedy
    top_p: float | None = None
    top_k: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Turn:
    """A prompt and its answers, one at least, by adapter."""

    prompt: str
    answers: Mapping[str | None, str]

    def answer(self, adapter: str | None) -> str:
        """The adapter's own answer, or else the one that was shown first."""
        return self.answers.get(adapter, next(iter(self.answers.values())))


class ChatModel(Protocol):
    """A loaded model."""

    @property
    def title(self) -> str:
        """The name of the backbone."""

    @property
    def adapters(self) -> Sequence[str | None]:
        """Its adapters, the one that answers first in front; None is the backbone without any."""

    @property
    def examples(self) -> Sequence[str]:
        """Prompts that it may be asked."""

    def fitting(
        self,
        turns: Sequence[Turn],
        prompt: str,
        adapters: Sequence[str | None],
        decoding: Decoding,
    ) -> Sequence[Turn]:
        """The latest turns that, with the prompt and its answers, fit the model's context."""

    def answer(
        self,
        turns: Sequence[Turn],
        prompt: str,
        adapters: Sequence[str | None],
        decoding: Decoding,
        show: Show,
    ) -> None:
        """Answer a prompt as each of the adapters, showing the answers while they are made.

        ZiaError if the prompt alone is too long for the model.
        """
