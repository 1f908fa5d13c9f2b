"""What is printed: text from outside as text, and nothing that fails where it cannot be printed.

A reason, path, name or log may hold anything. Shown are its letters: no escape code of it reaches a
terminal. And printing is not the work: a reader that has gone (`| head`), a full disk below a log
or a closed stream lose what is told there, and nothing else.
"""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

# Control characters but tabs and line feeds; separators at which some programs end a line; marks
# that turn the direction of what follows; halves of surrogate pairs, which no encoding takes.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: object) -> str:
    r"""Return a text in which everything that is not to be seen is written out, as `\x1b`."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], str(text))


def one_line(text: object) -> str:
    r"""Return a `plain` text in which line breaks are written out too: it forges no other line."""
    return plain(text).replace("\n", "\\n")


def tell(*lines: object) -> None:
    """Print lines on stdout, each as `plain` text."""
    print(*map(plain, lines), sep="\n", flush=True)  # noqa: T201


def say(sentence: object) -> None:
    """Tell on stderr how the work goes."""
    print(plain(sentence), file=sys.stderr, flush=True)  # noqa: T201


@dataclass(eq=False)  # hashed by identity: libraries keep streams in sets
class Stream:
    """A text stream that drops what it cannot write, and keeps the first reason in `error`."""

    stream: TextIO
    error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop, a text."""
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write, or drop, what waits to be written."""
        with self._dropping():
            self.stream.flush()

    def settle(self) -> None:
        """Leave nothing behind that Python would fail to write at its end."""
        self.flush()
        if self.error is not None:
            self._lead_nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            if error.errno == errno.EPIPE:  # for good; a full disk may be freed again
                self._lead_nowhere()
        except RuntimeError:  # a signal's handler has something to say in the middle of a sentence
            pass

    def _lead_nowhere(self) -> None:
        with suppress(OSError, ValueError):  # a stream that is no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        with suppress(OSError):
            self.stream.flush()


@contextmanager
def guarded() -> Iterator[Stream]:
    """Within the block nothing printed fails; gives stdout, which knows what was lost on it.

    Letters that the terminal's encoding lacks are written out. Standard streams that are closed
    lead nowhere: the next file to be opened would otherwise take their place, and get their text.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    before = sys.stdout, sys.stderr
    streams = []
    for given in before:
        stream = given or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        streams.append(Stream(stream))
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.settle()
        sys.stdout, sys.stderr = before
