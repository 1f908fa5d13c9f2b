"""A child process in a terminal of its own, typed into and read as a person does."""

import codecs
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

CTRL_C, CTRL_D = "\x03", "\x04"


def _take_terminal() -> None:
    """Make Ctrl-C a signal to this process, also if the tests run in a shell's background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A Python program whose stdin, stdout and stderr are a terminal that controls it."""

    def __init__(self, *arguments: object, cwd: Path, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self._unread, self._decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
        self.child = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            # Buffered, so that what is not flushed is not seen.
            env=os.environ
            | {"TERM": "dumb", "COLUMNS": "80", "PYTHONUNBUFFERED": ""}
            | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def until(self, text: str, seconds: float = 120) -> str:
        """What was printed since the last call, up to `text` and with it."""
        end = time.monotonic() + seconds
        while text not in self._unread:
            ready, _, _ = select.select([self._ours], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self._unread!r}"
            try:
                more = os.read(self._ours, 4096)
            except OSError as error:  # the child has gone
                raise AssertionError(f"no {text!r} in {self._unread!r}") from error
            self._unread += self._decoder.decode(more).replace("\r\n", "\n")
        read, _, self._unread = self._unread.partition(text)
        return read + text

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def interrupt(self, half: str) -> None:
        """Type part of a line and press Ctrl-C, once the child waits for the rest.

        Between showing keys and waiting for the next, readline does not see a signal until a key
        comes.
        """
        self.type(half)
        self.until(half)
        status = Path(f"/proc/{self.child.pid}/stat")
        while status.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.01)
        self.type(CTRL_C)

    def ask(self, line: str, prompt: str = "\n>>> ") -> str:
        """Type a line, and return what is printed below it up to the next prompt."""
        self.type(f"{line}\n")
        self.until(f"{line}\n")
        return self.until(prompt).removesuffix(prompt)

    def close(self) -> int:
        """Wait until the child ends; its exit code."""
        try:
            return self.child.wait(timeout=60)
        finally:
            self.child.kill()
            self.child.wait()
            os.close(self._ours)
