"""The toy experiment with a chat that needs no model; as a script, the command line `zia`.

An answer names the adapter, the seed and the conversation that it saw. "slow" is answered without
an end, and "answers" too large for a terminal: whatever it is asked to echo.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.cli import main
from experiments.harness import registry
from experiments.harness.chat import OWN, Decoding, Show, Turn
from experiments.harness.experiment import Experiment
from tests.harness import toy
from zia_core.errors import ZiaError

MEMORY = 3  # turns that fit


@dataclass(frozen=True)
class ToyChat:
    adapters: Sequence[str | None]
    title: str = "toys/pocket"
    examples: Sequence[str] = ("Add 1 and 2.",)

    def fitting(
        self,
        turns: Sequence[Turn],
        prompt: str,
        adapters: Sequence[str | None],
        decoding: Decoding,
    ) -> Sequence[Turn]:
        return turns[-MEMORY:]

    def answer(
        self,
        turns: Sequence[Turn],
        prompt: str,
        adapters: Sequence[str | None],
        decoding: Decoding,
        show: Show,
    ) -> None:
        """All adapters speak at the same time, the last one fastest."""
        if prompt == "long":
            raise ZiaError("the prompt is too long")
        said = {}
        for adapter in adapters:
            before = " ".join(f"{turn.prompt}={turn.answer(adapter)}" for turn in turns)
            said[adapter] = [f"{adapter}", f"#{decoding.seed}", f"({before})", prompt]
        for adapter in reversed(adapters):
            show(adapter, said[adapter].pop(0), False)
        while prompt == "slow":
            show(adapters[0], ".", False)
            time.sleep(0.01)
        for adapter in reversed(adapters):
            show(adapter, "".join(said[adapter]), True)


def chat(path: Path, sources: Mapping[str, str], device: str) -> ToyChat:
    only = "only" in sources.values()
    return ToyChat([*sources] if only else [*sources, OWN, None])


def chat_with(asked: str, sources: Mapping[str, str], template: str, device: str) -> ToyChat:
    return ToyChat([*sources, None], title=f"{asked}, {template}")


EXPERIMENT = replace(toy.EXPERIMENT, chat=chat, chat_with=chat_with)


def only_this() -> dict[str, Experiment]:
    return {"toy": EXPERIMENT}


if __name__ == "__main__":
    registry.experiments = only_this  # type: ignore[assignment]
    main.main()
