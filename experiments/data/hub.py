"""The hub, asked from one place: a process that has not reached it once asks it no more.

Left alone, its clients try six times, for half a minute, at every file that is asked for.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ATTEMPT_S = 10.0
_first = threading.Lock()
_has_answered = False


@contextmanager
def asked() -> Iterator[None]:
    """A block in which the hub's clients fetch something; all that asks the hub is in one.

    Where the hub does not answer one short request, which comes before the first block of a
    process, or fails in a block, clients find from then on only what is in their caches.
    """
    _try_once()
    try:
        yield
    except Exception as error:
        if _is_away(error):
            _give_up()
        raise


def _try_once() -> None:
    global _has_answered
    from huggingface_hub import constants, get_session

    with _first:
        if _has_answered or constants.HF_HUB_OFFLINE:
            return
        try:
            _has_answered = (
                get_session().head(constants.ENDPOINT, timeout=ATTEMPT_S).status_code < 500
            )
        except Exception:  # of whichever library the client is made with
            _has_answered = False
        if not _has_answered:
            _give_up()


def _is_away(error: BaseException) -> bool:
    """Whether an error is of the connection.

    It is not where the hub says a word of its own, such as that it has no file of that name, nor
    where a file on this machine cannot be written.
    """
    from huggingface_hub.errors import HfHubHTTPError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HfHubHTTPError) and getattr(seen, "response", None) is not None:
            return seen.response.status_code >= 500
        seen = seen.__cause__ or seen.__context__
    return isinstance(error, OSError) and error.filename is None


def _give_up() -> None:
    """Put the clients into the mode of `HF_HUB_OFFLINE=1`, which they read when imported."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    if (datasets := sys.modules.get("datasets")) is not None:  # it keeps a copy
        datasets.config.HF_HUB_OFFLINE = True
