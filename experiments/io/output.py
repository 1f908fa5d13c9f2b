"""Print untrusted text safely, on any terminal.

Reasons, paths, names and logs may contain anything, but no escape code of theirs reaches a
terminal. Printing never interrupts work: a closed pipe (`| head`), a full disk or a closed stream
loses what is printed there and nothing else.
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

# Control characters except tab and line feed, Unicode line separators, direction marks, and lone
# surrogates, which no encoding can represent.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: object) -> str:
    r"""Return the text with unprintable characters escaped, such as `\x1b`."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(text))


def one_line(text: object) -> str:
    r"""Return a `plain` text with line breaks escaped too, so that it cannot fake other lines."""
    return plain(text).replace("\n", "\\n")


def tell(*lines: object) -> None:
    """Print lines to stdout as `plain` text."""
    print(*map(plain, lines), sep="\n", flush=True)  # noqa: T201


def write(text: object) -> None:
    """Print a part of a line to stdout as `plain` text."""
    print(plain(text), end="", flush=True)  # noqa: T201


def is_lost() -> bool:
    """Whether stdout has lost text, within `guarded`: nobody may be reading."""
    return getattr(sys.stdout, "error", None) is not None


def say(sentence: object) -> None:
    """Print a sentence to stderr."""
    print(plain(sentence), file=sys.stderr, flush=True)  # noqa: T201


@dataclass(eq=False)  # hashed by identity: libraries keep streams in sets
class Stream:
    """A text stream that drops what it cannot write and keeps the first error."""

    stream: TextIO
    error: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write buffered text, or drop it."""
        with self._dropping():
            self.stream.flush()

    def settle(self) -> None:
        """Flush, so that Python has nothing left to write, and fail at, on exit."""
        self.flush()
        if self.error is not None:
            self._redirect_to_null()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            if error.errno == errno.EPIPE:  # permanent, unlike a full disk
                self._redirect_to_null()
        except RuntimeError:  # a signal handler prints while this stream is printing
            pass

    def _redirect_to_null(self) -> None:
        with suppress(OSError, ValueError):  # a stream that is not a file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        with suppress(OSError):
            self.stream.flush()


@contextmanager
def guarded() -> Iterator[Stream]:
    """Within the block, printing never fails; yields stdout, which records what it lost.

    Characters that the terminal's encoding lacks are escaped. Closed standard streams are
    redirected to null; otherwise the next file opened would take their place, and their text.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
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
