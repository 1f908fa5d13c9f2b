"""Chat in a terminal: type prompts and commands, and stop answers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from experiments.cli.chat_session import Session
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

NONE = "none"  # the backbone without an adapter
BLOCK = '"""'  # begins and ends a prompt of several lines
LARGEST_SEED = 2**63 - 1


def converse(session: Session) -> None:
    """Chat until /exit or Ctrl-D. Ctrl-C stops an answer, not the chat."""
    with suppress(ImportError):
        import readline  # noqa: F401 - edits the line that `input` reads

    tell(f"{session.model.title}, {_answering(session)}. /help lists commands, Ctrl-D ends.")
    while True:
        try:
            prompt = _typed()
            if prompt.startswith("/"):
                name, _, argument = prompt.strip().partition(" ")
                if name in ENDING:
                    return
                _do(session, name, argument.strip())
            elif prompt.strip():
                session.ask(prompt.strip())
        except EOFError:
            tell("")
            return
        except KeyboardInterrupt:
            tell("", "(/exit or Ctrl-D ends the chat)")
        except ZiaError as error:
            say(error)


def stdin_lines() -> Iterator[str]:
    """The lines of stdin that are not empty."""
    if sys.stdin is not None:
        _keep_bytes()
        for line in sys.stdin:
            if line.strip():
                yield _text(line.strip())


def _typed() -> str:
    """A line, or the lines of a block."""
    _keep_bytes()
    text = _text(input(">>> "))
    if not text.startswith(BLOCK):
        return text
    text = text.removeprefix(BLOCK)
    while not text.rstrip().endswith(BLOCK):
        text += "\n" + _text(input("... "))
    return text.rstrip().removesuffix(BLOCK)


def _keep_bytes() -> None:
    """Read bytes that are not text as surrogates, for `_text`, instead of failing in a line."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")


def _text(line: str) -> str:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ZiaError(f"this line is not text in {sys.stdin.encoding}: {line!r:.60}") from error
    return line


def _answering(session: Session) -> str:
    if session.comparing:
        return "as every adapter and as the backbone"
    return "without an adapter" if session.adapter is None else f"adapter {session.adapter}"


def _do(session: Session, name: str, argument: str) -> None:
    if name not in COMMANDS:
        raise ZiaError(f"there is no command {name!r:.40}; /help lists them")
    COMMANDS[name][2](session, argument)


def _help(session: Session, argument: str) -> None:
    for name, (takes, text, _) in COMMANDS.items():
        tell(f"  {f'{name} {takes}':<16} {text}")
    tell(
        f"  {'/exit':<16} end the chat, as Ctrl-D; Ctrl-C stops an answer",
        f"A prompt of several lines is between two {BLOCK}.",
        "A prompt that begins with a slash has a space in front.",
    )


def _clear(session: Session, argument: str) -> None:
    session.clear()
    tell("a new conversation")


def _undo(session: Session, argument: str) -> None:
    if not session.turns:
        raise ZiaError("there is nothing to undo")
    tell(f"forgotten: {session.turns.pop().prompt}")


def _adapter(session: Session, argument: str) -> None:
    names = {NONE if each is None else each: each for each in session.model.adapters}
    if argument:
        if argument not in names:
            raise ZiaError(f"there is no adapter {argument!r:.60}; choose from: {', '.join(names)}")
        session.adapter = names[argument]
        session.compare(False)
    tell(f"{_answering(session)}; there are {', '.join(names)}")


def _compare(session: Session, argument: str) -> None:
    session.compare(not session.comparing)
    tell(_answering(session))


def _seed(session: Session, argument: str) -> None:
    if not (argument.isascii() and argument.isdecimal() and int(argument) <= LARGEST_SEED):
        raise ZiaError(f"a seed is a whole number from 0 to {LARGEST_SEED}, not {argument!r:.40}")
    session.decoding = replace(session.decoding, seed=int(argument))
    if not session.decoding.temperature:
        say("(answers are greedy and need no seed: start with --temperature to sample)")


def _examples(session: Session, argument: str) -> None:
    tell(*session.model.examples)


# What each takes, what it does, and the function that does it.
COMMANDS: dict[str, tuple[str, str, Callable[[Session, str], None]]] = {
    "/help": ("", "show this", _help),
    "/clear": ("", "forget the conversation", _clear),
    "/undo": ("", "forget the last prompt and its answer", _undo),
    "/adapter": ("[NAME]", "answer as this adapter, or as the backbone (none)", _adapter),
    "/compare": ("", "answer as every adapter and the backbone, or stop that", _compare),
    "/seed": ("N", "sample with another seed", _seed),
    "/examples": ("", "show instructions to try", _examples),
}
ENDING = ("/exit", "/quit", "/bye")
