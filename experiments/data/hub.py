"""Ask the hub from one place: a process that failed to reach it once stops asking.

Left alone, its clients try six times, for half a minute, for every file.
"""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.data.files import DATA_VARIABLE, where_looked
from zia_core.errors import ZiaError
from zia_core.files import NO_ROOM

ATTEMPT_S = 10.0
_first = threading.Lock()
_has_answered = False


@contextmanager
def asked() -> Iterator[None]:
    """A block in which the hub's clients fetch something; all of their calls are in one.

    A short request comes before the first block of a process. If the hub does not answer it, or
    fails in a block, clients use only their caches from then on.
    """
    _try_once()
    try:
        yield
    except Exception as error:
        if _is_away(error):
            _give_up()
        raise


def rows(what: str, file: str, name: str, revision: str, split: str) -> Iterable[Any]:
    """The rows of a data set at the hub.

    ZiaError if it cannot be loaded: `what` and `file` say what is missing from $ZIA_DATA.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with asked():
            found: Iterable[Any] = load_dataset(name, revision=revision, split=split)
    except (OSError, DatasetsError) as error:  # the hub's connection errors are OSErrors
        raise ZiaError(
            f"no {what} data: {where_looked(file)}, and the hub's {name} cannot be loaded "
            f"({type(error).__name__}); put {Path(file).name} into the folder "
            f"{Path(file).parent}/ of ${DATA_VARIABLE}, or connect to the network"
        ) from error
    return found


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
    """Whether an error is the connection's.

    Not if the hub itself answered, say that it has no such file, nor if a local file cannot be
    written.
    """
    from huggingface_hub.errors import HfHubHTTPError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HfHubHTTPError) and getattr(seen, "response", None) is not None:
            return seen.response.status_code >= 500
        if isinstance(seen, OSError) and seen.errno in NO_ROOM:  # a full disk names no file
            return False
        seen = seen.__cause__ or seen.__context__
    return isinstance(error, OSError) and error.filename is None


def _give_up() -> None:
    """Set the clients to `HF_HUB_OFFLINE=1`, which they only read when imported."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    if (datasets := sys.modules.get("datasets")) is not None:  # it keeps a copy
        datasets.config.HF_HUB_OFFLINE = True
