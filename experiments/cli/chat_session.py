"""A conversation with a model's adapters, shown while it is answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from experiments.harness.chat import BACKBONE, ChatModel, Decoding, Turn
from experiments.io.output import is_lost, say, tell, write
from experiments.io.terminal import side_by_side
from zia_core.errors import ZiaError


@dataclass
class Session:
    """A conversation, and who answers next."""

    model: ChatModel
    decoding: Decoding
    comparing: bool = False  # every adapter and the backbone answer
    turns: list[Turn] = field(default_factory=list)
    _told_of_context: bool = False

    def __post_init__(self) -> None:
        self.adapter = self.model.adapters[0]
        self.compare(self.comparing)

    def compare(self, on: bool) -> None:
        """Answer as every adapter and as the backbone, or as one of them.

        ZiaError if there is only one.
        """
        if on and len(self.model.adapters) == 1:
            why = "the method of this run has changed the backbone"
            if self.adapter is None:
                why = "give adapters with --adapter"
            raise ZiaError(f"nothing to compare: {why}")
        self.comparing = on

    def ask(self, prompt: str) -> None:
        """Answer a prompt that follows the turns so far, and show the answer as it grows.

        If Ctrl-C stops the answer, what was shown of it belongs to the conversation.
        """
        answering = self._all() if self.comparing else [self.adapter]
        fitting = self.model.fitting(self.turns, prompt, answering, self.decoding)
        if len(fitting) < len(self.turns) and not self._told_of_context:
            self._told_of_context = True
            say("(the oldest turns do not fit the model's context any more and are left out)")
        shown = InOrder(answering, labelled=self.comparing)
        try:
            self.model.answer(fitting, prompt, answering, self.decoding, shown)
        finally:
            if shown.texts:
                self.turns.append(Turn(prompt, shown.texts))

    def tabulate(self, prompt: str) -> None:
        """Show all answers to a prompt on its own beside each other."""
        answering = self._all()
        texts = dict.fromkeys(map(label, answering), "")

        def add(adapter: str | None, piece: str, last: bool) -> None:
            texts[label(adapter)] += piece

        self.model.answer([], prompt, answering, self.decoding, add)
        side_by_side(prompt, texts)

    def answer_each(self, prompts: Iterable[str]) -> None:
        """Answer each prompt on its own, with an empty line after it."""
        for prompt in prompts:
            self.clear()
            self.ask(prompt)
            tell("")
            if is_lost():  # `| head` has read enough
                return

    def clear(self) -> None:
        """Begin a new conversation."""
        self.turns.clear()
        self._told_of_context = False

    def _all(self) -> Sequence[str | None]:
        """The backbone first, then the adapters in their order."""
        return sorted(self.model.adapters, key=lambda adapter: adapter is not None)


class InOrder:
    """Shows answers one below the other while they are made at the same time.

    The first is shown as it grows; the others wait for their turn. `texts` is what was shown.
    """

    def __init__(self, adapters: Sequence[str | None], *, labelled: bool) -> None:
        self.texts: dict[str | None, str] = {}
        self._queue, self._labelled = list(adapters), labelled
        self._waiting = dict.fromkeys(adapters, "")
        self._ended: set[str | None] = set()

    def __call__(self, adapter: str | None, piece: str, last: bool) -> None:
        """Show a piece, or keep it until the answers above have ended."""
        self._waiting[adapter] += piece
        if last:
            self._ended.add(adapter)
        while self._queue:
            current = self._queue[0]
            if self._labelled and current not in self.texts:
                tell(f"[{label(current)}]")
            text, self._waiting[current] = self._waiting[current], ""
            self.texts[current] = self.texts.get(current, "") + text
            write(text)
            if current not in self._ended:
                return
            tell("")
            self._queue.pop(0)


def label(adapter: str | None) -> str:
    """The name of an adapter that is shown."""
    return BACKBONE if adapter is None else adapter
