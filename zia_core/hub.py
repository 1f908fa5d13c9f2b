"""Share adapters on the Hugging Face hub: config and model card beside the tensors, push, fetch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from zia_core.errors import ZiaError
from zia_core.files import write_atomic, write_errors
from zia_core.wrappers import unwrapped

ADAPTER_FILE, CONFIG_FILE, CARD_FILE = "adapter.safetensors", "adapter_config.json", "README.md"
_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
# A card that has this line is written anew; any other README.md is somebody's own.
_MARK = "<!-- written by zia_core.save_adapter -->"


@dataclass(frozen=True)
class ModelCard:
    """What `save_adapter` cannot read off the model, for its model card.

    Attributes:
        data: names of the data sets that the adapter was trained on.
        metrics: scores by name, such as `{"SQuAD v1.1 F1": 84.8}`.
        licence: of the adapter: one of the hub's identifiers, such as "apache-2.0".
        note: further text, in Markdown.
    """

    data: Sequence[str] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    licence: str | None = None
    note: str = ""


def describe(folder: Path, model: nn.Module, about: Mapping[str, Any], card: ModelCard) -> None:
    """Write `adapter_config.json` and the model card; a README.md of the user's own stays.

    Args:
        folder: of the adapter.
        model: that the adapter was trained on.
        about: the header of the adapter file.
        card: what the user says.
    """
    base = base_model(model)
    config = {name: about[name] for name in ("method", "config", "visual") if name in about}
    content = json.dumps(config | {"base_model": base}, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / CONFIG_FILE, content)
    readme = folder / CARD_FILE
    with write_errors(readme):
        own = readme.exists() and _MARK not in readme.read_text("utf-8", errors="replace")
    if not own:
        write_atomic(readme, _card(base, about, card))


def refuse_folder_of_others(folder: Path) -> None:
    """Refuse a folder where `adapter_config.json` is or would be taken for PEFT's.

    transformers looks for that file beside a model.
    """
    for name, mark, holds in (
        (CONFIG_FILE, '"peft_type"', f"an adapter of PEFT, which has an {CONFIG_FILE} of its own"),
        ("config.json", '"model_type"', "a model, which transformers could not load then"),
    ):
        file = folder / name
        if file.is_file() and mark in file.read_text("utf-8", errors="replace"):
            raise ZiaError(f"{folder} holds {holds}; save to another folder.")


def base_model(model: nn.Module) -> dict[str, str | None]:
    """Class, and name and revision at the hub where known; a folder's path is not recorded."""
    bare: Any = unwrapped(model)
    config = getattr(bare, "config", None)
    timm = getattr(bare, "pretrained_cfg", None) or {}
    name = getattr(config, "_name_or_path", None) or timm.get("hf_hub_id")
    known = isinstance(name, str) and _NAME.fullmatch(name) and not Path(name).exists()
    return {
        "class": type(bare).__name__,
        "name": name if known else None,
        "revision": getattr(config, "_commit_hash", None) if known else None,
    }


def local_file(source: Path, given: str) -> Path:
    """The adapter file of a folder, a file, or `owner/name[@revision]` at the hub.

    What exists on this machine comes first. ZiaError if the hub does not have it.
    """
    if source.is_dir():
        return source / ADAPTER_FILE
    parts = _NAME.fullmatch(given)
    if source.exists() or parts is None or given.endswith(".safetensors"):
        return source
    from huggingface_hub import hf_hub_download

    with asked(given):
        found = hf_hub_download(parts["name"], ADAPTER_FILE, revision=parts["revision"])
    return Path(found)


def push_adapter(folder: str | Path, name: str, *, private: bool = False) -> str:
    """Upload an adapter to the Hugging Face hub: the tensors, the config and the card.

    Log in with `hf auth login` first, or set `$HF_TOKEN`.

    Args:
        folder: what `save_adapter` wrote; other files in it are not uploaded.
        name: `owner/name` of the repository, which is created if missing.
        private: of a repository that is created.

    Returns:
        The hash of the commit, for `load_adapter(model, "owner/name@<hash>")`.

    Raises:
        ZiaError: there is no adapter, or the hub refuses or does not answer.
    """
    from huggingface_hub import HfApi

    path = Path(folder)
    parts = _NAME.fullmatch(name)
    if parts is None or parts["revision"]:
        raise ZiaError(f"{name!r:.80} must be owner/name, the repository to push to.")
    if not (path / ADAPTER_FILE).is_file():
        raise ZiaError(f"There is no {ADAPTER_FILE} in {path}: save_adapter writes one.")
    with asked(name):
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        files = [ADAPTER_FILE, CONFIG_FILE, CARD_FILE]
        message = "Upload adapter"
        done = api.upload_folder(
            repo_id=name, folder_path=path, allow_patterns=files, commit_message=message
        )
    return str(done.oid)


@contextmanager
def asked(name: str) -> Iterator[None]:
    """Turn errors of the hub's client within the block into sentences."""
    from huggingface_hub import errors

    login = "log in with `hf auth login` or set $HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ZiaError(
            f"{name} is gated: accept its conditions on its page, and {login}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ZiaError(f"The hub's repository has no such revision: {name}.") from error
    except errors.RemoteEntryNotFoundError as error:
        raise ZiaError(f"The hub's {name} has no {ADAPTER_FILE}: it is not an adapter.") from error
    except errors.RepositoryNotFoundError as error:
        raise ZiaError(
            f"There is no adapter {name}: neither a folder here nor a repository of the hub that "
            f"you can see; {login} if it is private."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = login if status in (401, 403) else "try again later"
        raise ZiaError(f"The hub answers {status} for {name}: {advice}.") from error
    except OSError as error:  # no connection, and nothing in the cache
        raise ZiaError(
            f"There is no adapter {name} here, and the hub cannot be reached "
            f"({type(error).__name__})."
        ) from error


def _card(base: Mapping[str, str | None], about: Mapping[str, Any], card: ModelCard) -> str:
    head = ["library_name: zia_core", "tags: [llama-adapter, zero-init-attention]"]
    if base["name"]:
        head.append(f"base_model: {base['name']}")
    if card.licence:
        head.append(f"license: {card.licence}")
    if named := [data for data in card.data if _NAME.fullmatch(data)]:
        head.append(f"datasets: {json.dumps(named)}")
    at = f" at revision `{base['revision']}`" if base["revision"] else ""
    backbone = f"`{base['name'] or base['class']}`{at}"
    config = about["config"]
    lines = [
        "---", *head, "---", "", _MARK, "",
        f"# Zero-init attention adapter of {base['name'] or base['class']}", "",
        f"Prompts and gates ([LLaMA-Adapter](https://arxiv.org/abs/2303.16199)) for {backbone}: "
        f"{config['prompt_length']} prompts in each of the top {config['num_layers']} layers.", "",
        "```python", "from zia_core import load_adapter", "",
        'load_adapter(model, "owner/name")  # of this repository; `model` is the backbone', "```",
        "", "## Data", "", ", ".join(card.data) or "Not stated.",
        "", "## Metrics", "",
    ]  # fmt: skip
    lines += [f"- {name}: {value:g}" for name, value in card.metrics.items()] or ["Not stated."]
    licence = card.licence or "Not stated."
    lines += [
        "", "## Licence", "",
        f"Adapter: {licence.rstrip('.')}. The backbone's own licence applies to it and may bind "
        "what is trained on it.", "",
    ]  # fmt: skip
    return "\n".join([*lines, *([card.note, ""] if card.note else [])])
