"""Find the weights of a model: in $ZIA_WEIGHTS, among those released with the project, at the hub.

`$ZIA_WEIGHTS` (default: `weights` in the project) has a folder for each model, in the hub's format,
as Meta released LLaMA, or with one GGUF file. The hub is asked at a pinned revision, where one is
known.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

from experiments.backbones import meta_llama
from experiments.data import hub
from experiments.harness.needs import WEIGHTS_VARIABLE, Source
from experiments.harness.provenance import weights_fingerprint
from experiments.io.files import read_json, sha256_file
from zia_core.errors import ZiaError

RELEASED = Path(__file__).with_name("released")
WEIGHTS, CARD = "model.safetensors", "card.json"


Named = TypeVar("Named", bound=Source)


@dataclass(frozen=True)
class Found:
    """The folder of a model and its weight files."""

    folder: Path
    files: tuple[Path, ...]

    @property
    def as_meta_released(self) -> bool:
        """Whether this is LLaMA in Meta's own format."""
        return self.files[0].suffix == meta_llama.SUFFIX

    def fingerprint(self) -> dict[str, str]:
        """The SHA-256 of each weight file by its name."""
        return weights_fingerprint(self.files)


def by_name(known: Mapping[str, Named], name: str) -> Named:
    """The source of that name; ZiaError lists the known ones."""
    if name not in known:
        raise ZiaError(f"there is no backbone {name!r:.60}; choose from: {', '.join(known)}")
    return known[name]


@contextmanager
def located(source: Source) -> Iterator[Found]:
    """Find the weights, and load them inside the block.

    Raises:
        ZiaError: in one sentence, the weights are missing and the hub cannot be reached, or they
            are damaged or cannot be loaded.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from safetensors import SafetensorError

    folder = source.local
    try:
        found = _find(source)
        folder = found.folder
        yield found
    except (LocalEntryNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise ZiaError(
            f"no weights of {source.name}: {folder} does not exist, and the hub's {source.hub} "
            f"cannot be reached ({type(error).__name__}); "
            f"{f'{source.howto}, ' if source.howto else ''}put the model into that folder, "
            f"set ${WEIGHTS_VARIABLE}, or connect to the network"
        ) from error
    except (
        SafetensorError, OSError, ValueError, LookupError, ImportError, RuntimeError, TypeError,
        struct.error,
    ) as error:  # fmt: skip
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ZiaError(
            f"the weights of {source.name} in {folder} cannot be loaded ({reason[0]:.200}): "
            f"{source.howto or 'fetch them again'}"
        ) from error


def _find(source: Source) -> Found:
    folder = source.local
    if source.gguf:
        files = sorted(folder.glob("*.gguf"))
        if len(files) != 1:
            raise ZiaError(
                f"{folder} holds {len(files)} GGUF files instead of the one of {source.name}: "
                f"{source.howto}, or set ${WEIGHTS_VARIABLE} to a folder that has it"
            )
        return Found(folder, tuple(files))
    if (folder / source.marker).exists():
        return _in_hub_format(folder)
    if shards := meta_llama.weight_files(folder):
        return Found(folder, (*shards, folder / meta_llama.PARAMS))
    if source.released:
        return _released(source)
    if source.hub is None:
        raise ZiaError(
            f"no weights of {source.name}: {folder / source.marker} does not exist; "
            f"{source.howto}, or set ${WEIGHTS_VARIABLE} to a folder that has {source.folder}"
        )
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer*"]
    with hub.asked():
        local = snapshot_download(source.hub, revision=source.revision, allow_patterns=patterns)
    return _in_hub_format(Path(local))


def _released(source: Source) -> Found:
    folder = RELEASED / source.folder
    if not folder.is_dir():
        raise ZiaError(f"no weights of {source.name}: {folder} is missing; {source.howto}")
    found = _in_hub_format(folder)
    card = read_json(folder / CARD)
    if [sha256_file(file) for file in found.files] != [card.get("sha256")]:
        raise ZiaError(f"{found.files[0]} is not the file that {folder / CARD} describes")
    return found


def _in_hub_format(folder: Path) -> Found:
    files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        raise ZiaError(f"{folder} has no *.safetensors: fetch the weights again")
    return Found(folder, files)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the bars of loading, which would break the run's own.

    That of the GGUF reader has no switch, hence the buffer.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def no_load_report() -> Iterator[None]:
    """Hide transformers' table of missing and unused weights, which the caller checks."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
