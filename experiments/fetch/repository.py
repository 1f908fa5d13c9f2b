"""List, download and verify the files of a repository at the hub."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from experiments.data import hub
from experiments.fetch.lock import Kind
from experiments.io.files import sha256_file
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class HubFile:
    """A file; the hub gives a SHA-256 of large ones, and git's hash of the others."""

    path: str
    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class Listing:
    """The files of one commit of a repository."""

    kind: Kind
    name: str
    revision: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def listing(kind: Kind, name: str, revision: str | None, patterns: Sequence[str]) -> Listing:
    """Ask the hub for the files that match a pattern; by default at the newest revision.

    ZiaError, which says what to do, if the hub does not answer or has no such repository.
    """
    from huggingface_hub import HfApi

    with hub_errors(name, revision), hub.asked():
        api = HfApi()
        ask: Any = api.model_info if kind == "models" else api.dataset_info
        info = ask(name, revision=revision, files_metadata=True)
    files = [
        HubFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None, each.blob_id)
        for each in info.siblings
        if any(fnmatch(each.rfilename, pattern) for pattern in patterns)
    ]
    if not files:
        raise ZiaError(f"the hub's {name} has none of {', '.join(patterns)} at {info.sha}")
    return Listing(kind, name, info.sha, tuple(files))


def download(listed: Listing, folder: Path) -> dict[str, str]:
    """Download what `folder` lacks, and return the SHA-256 of every file.

    ZiaError as in `listing`; for a file that is not what the hub says it is, which is deleted.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(listed.name, listed.revision), hub.asked():
        snapshot_download(
            listed.name,
            repo_type=listed.kind.removesuffix("s"),
            revision=listed.revision,
            allow_patterns=[file.path for file in listed.files],
            local_dir=folder,
        )
    return {file.path: _verified(listed, file, folder / file.path) for file in listed.files}


def _verified(listed: Listing, file: HubFile, path: Path) -> str:
    digest = sha256_file(path)
    if file.sha256 is not None:
        right = digest == file.sha256
    else:
        content = path.read_bytes()  # a small file
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        right = file.blob in (None, blob)
    if not right:
        path.unlink()
        raise ZiaError(
            f"{file.path} of {listed.name} arrived damaged (its hash is not the hub's) and was "
            "deleted: run the command again"
        )
    return digest


@contextmanager
def hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the hub's clients into sentences that say what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{name}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ZiaError(
            f"{name} is gated: accept its conditions at {page}, log in with `hf auth login` or set "
            "$HF_TOKEN, and run the command again"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ZiaError(f"the hub's {name} has no revision {revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise ZiaError(
            f"the hub has no {name}, or it is private: look at {page}, and log in with "
            "`hf auth login` if you have access"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        wait = error.response.headers.get("Retry-After")
        advice = f"wait {wait} s" if status == 429 and wait else "try again later"
        if status == 401:
            advice = "log in with `hf auth login` or set $HF_TOKEN"
        raise ZiaError(
            f"the hub answers {status} for {name}: {advice}; what has arrived is kept"
        ) from error
    except (OSError, RuntimeError, errors.HFValidationError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise ZiaError(f"cannot write {error.filename}: {error.strerror}") from error
        raise ZiaError(
            f"{name} cannot be fetched ({type(error).__name__}): connect to the network (and unset "
            "HF_HUB_OFFLINE), and run the command again; what has arrived is kept"
        ) from error
    except Exception as error:  # of whichever library the client is made with
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore"):
            raise
        raise ZiaError(
            f"the connection failed while fetching {name} ({type(error).__name__}): run the "
            "command again; what has arrived is kept"
        ) from error
