"""Models that are not in the project's lists: a folder, or a repository of the hub.

A run's spec names them `<folder>@sha256-<16 digits>`, by the content of the files that numbers
depend on, or `owner/name@<commit>`. Neither is a path, so that a run means the same anywhere.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from experiments.backbones import meta_llama
from experiments.data import hub
from experiments.harness.needs import CONFIG, Source, weights_root
from experiments.io.files import canonical_json, read_json, sha256_file
from zia_core.errors import ZiaError

FOLDER_NAME = re.compile(r"([A-Za-z0-9][\w.+-]*)@sha256-([0-9a-f]{16})")
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Files that numbers depend on: weights, configuration, tokenizer, preprocessing.
WEIGHT_FILES = ("*.safetensors", "*.pth")
OTHER_FILES = (
    *(CONFIG, meta_llama.PARAMS, "preprocessor_config.json", "chat_template*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
)
SMALL_FILES = ["*.json", "*.txt", "*.jinja", "tokenizer*"]  # of a repository: all but the weights
ADAPTERS = ("adapter_config.json", "adapter.safetensors")  # PEFT's, ours

# Where this process found the folders that it was given, by their names in specs.
_folders: dict[str, Path] = {}


def is_own(name: str) -> bool:
    """Whether a name in a spec is that of a folder or of a repository at a commit."""
    return bool(FOLDER_NAME.fullmatch(name) or HUB_NAME.fullmatch(name))


def named(asked: str, known: Collection[str]) -> str:
    """The name in specs of the model that `--backbone` or `--encoder` asks for.

    Args:
        asked: a name of `known`, a folder, a folder's name in $ZIA_WEIGHTS, or owner/name@revision
            of the hub, whose revision is a commit, branch or tag (default: main).
        known: names of the project's own lists.

    Raises:
        ZiaError: there is no such model, or it is an adapter or lacks files.
    """
    if asked in known or FOLDER_NAME.fullmatch(asked):
        return asked
    if HUB_NAME.fullmatch(asked) and source(asked).local.is_dir():  # fetched: no network is needed
        return asked
    folder = Path(asked).expanduser()
    if asked.startswith(("/", "~", ".")) and not folder.is_dir():
        raise ZiaError(f"there is no folder {asked!r:.200} to take a backbone from")
    if not folder.is_dir() and "/" not in asked:
        folder = weights_root() / asked
    if folder.is_dir():
        folder = folder.resolve()
        _check(folder)
        name = f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', folder.name).lstrip('-._+')}@{_digest(folder)}"
        _folders[name] = folder
        return name
    repository, _, revision = asked.partition("@")
    if REPOSITORY.fullmatch(repository):
        commit = small_files(repository, revision or "main").name
        return f"{repository}@{commit}"
    raise ZiaError(
        f"there is no backbone {asked!r:.100}: it is neither a folder, nor a folder in "
        f"{weights_root()}, nor owner/name@revision of the hub, nor one of: {', '.join(known)}"
    )


def source(name: str) -> Source:
    """Where the weights of a name in a spec are.

    Raises:
        ZiaError: the folder is not here, or its files have changed.
    """
    if HUB_NAME.fullmatch(name):
        repository, _, commit = name.partition("@")
        return Source(name, name.replace("/", "--"), hub=repository, revision=commit)
    return Source(name, str(_folder(name)))


def files_of(name: str) -> Path:
    """The folder with the configuration and tokenizer; the weights may not be there yet."""
    if not HUB_NAME.fullmatch(name):
        return _folder(name)
    local = source(name).local
    return local if local.is_dir() else small_files(*name.split("@"))


def config_of(name: str) -> dict[str, Any]:
    """The content of config.json."""
    return read_json(files_of(name) / CONFIG)


def shape_of(folder: Path, kind: Any, change: Callable[[Any], Any] = lambda config: config) -> Any:
    """The model of a config.json on torch's meta device: no weights.

    Args:
        folder: with the config.json.
        kind: a class such as transformers' AutoModelForCausalLM.
        change: returns the configuration to use.

    Raises:
        ZiaError: the configuration is that of a model for something else.
    """
    import torch
    from transformers import AutoConfig

    content = read_json(folder / CONFIG)
    if "architecture" in content and "model_type" not in content:
        raise ZiaError(
            f"its {CONFIG} is that of timm's {content['architecture']!s:.60}, for images"
        )
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        with torch.device("meta"):
            return kind.from_config(change(config), trust_remote_code=False)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise ZiaError(f"its {CONFIG} is that of a {config.model_type}, another kind") from error


def tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a model in the hub's format; ZiaError if there is none."""
    from transformers import AutoTokenizer

    if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
        raise ZiaError(f"{name} has no tokenizer: put its tokenizer.json beside its {CONFIG}")
    with refused(f"the tokenizer of {name} cannot be loaded"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def check_vocabulary(tokenizer: Any, embeddings: int, name: str) -> None:
    """Raise ZiaError if texts may have tokens that a model of so many `embeddings` lacks.

    A special token that texts have not, as Gemma's for images, does not matter.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    roles = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
    special -= {getattr(tokenizer, f"{role}_token_id") for role in roles}
    last = max((i, text) for text, i in tokenizer.get_vocab().items() if i not in special)
    if last[0] >= embeddings:
        raise ZiaError(
            f"the tokenizer of {name} is another model's: its token {last[1]!r:.40} has the number "
            f"{last[0]}, and the model's vocabulary ends with {embeddings - 1}"
        )


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    """Raise what a library says of a model in the block as a ZiaError: `sentence`, and why."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (
        ZiaError, StrictDataclassError, OSError, ValueError, LookupError, ImportError, TypeError,
        AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ZiaError(f"{sentence}: {lines[0]:.200}") from error


@cache
def small_files(repository: str, revision: str) -> Path:
    """The local folder, named after the commit, of a repository's files without the weights.

    Raises:
        ZiaError: the hub cannot be reached, or it has no such repository, revision or model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"{repository}@{revision}"
    try:
        with hub.asked():
            found = snapshot_download(repository, revision=revision, allow_patterns=SMALL_FILES)
    except RevisionNotFoundError as error:
        raise ZiaError(f"the hub's {repository} has no revision {revision!r:.60}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ZiaError(
            f"there is no backbone {what!r:.100}: it is not a folder, and the hub has no such "
            "repository or shows it only to those with access: accept its terms, and set $HF_TOKEN"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ZiaError(
            f"no backbone {what!r:.100}: it is not a folder, and the hub cannot be reached "
            f"({type(error).__name__}); give a folder, or connect to the network"
        ) from error
    folder = Path(found)
    if not (folder / CONFIG).exists():
        raise ZiaError(f"the hub's {what} is not a model: it has no {CONFIG}")
    return folder


def _folder(name: str) -> Path:
    folder = _folders.get(name) or weights_root() / name.partition("@")[0]
    if not folder.is_dir():
        raise ZiaError(
            f"no weights of {name}: {folder} does not exist; put the folder or a link to it there, "
            "or name it with --backbone or --encoder"
        )
    if _digest(folder) != name.partition("@")[2]:
        raise ZiaError(
            f"{folder} is not {name}: its files have changed, or are those of another model"
        )
    return folder


def _check(folder: Path) -> None:
    """Raise ZiaError unless the folder looks like a model in the hub's or Meta's format."""
    for file in ADAPTERS:
        if (folder / file).exists():
            raise ZiaError(
                f"{folder} is an adapter ({file}), not a model: give the folder of its backbone"
            )
    if meta_llama.weight_files(folder):
        return
    if not (folder / CONFIG).exists():
        raise ZiaError(
            f"{folder} is not a model: it has no {CONFIG}"
            + (" (convert GGUF files to the hub's format)" if any(folder.glob("*.gguf")) else "")
        )
    if not any(folder.glob("*.safetensors")):
        raise ZiaError(f"{folder} has no weights: it needs *.safetensors beside its {CONFIG}")


def _digest(folder: Path) -> str:
    files = {file for pattern in (*WEIGHT_FILES, *OTHER_FILES) for file in folder.glob(pattern)}
    content = {file.name: _hash_of(file) for file in sorted(files) if file.is_file()}
    return f"sha256-{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]}"


def _hash_of(file: Path) -> str:
    about = file.stat()
    return _hash_of_version(file, about.st_size, about.st_mtime_ns)


@cache  # weights are gigabytes, and every plan of a process asks
def _hash_of_version(file: Path, size: int, modified: int) -> str:
    return sha256_file(file)
