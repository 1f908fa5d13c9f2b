"""Tell whether a model's files are all here, without loading the model or using the network."""

from collections.abc import Mapping
from pathlib import Path

from experiments.harness.needs import CONFIG, Source
from experiments.io.files import read_json, sha256_file
from zia_core.errors import ZiaError

CARD, INDEX = "card.json", "model.safetensors.index.json"


def check(source: Source, released: Path, hashes: Mapping[str, str] | None = None) -> None:
    """Raise ZiaError, in one sentence, if the weights or the tokenizer are missing or damaged.

    `released` has the models that come with the project; `hashes` are known SHA-256s by file.
    """
    folder = _folder(source, released)
    if source.gguf:
        files = sorted(folder.glob("*.gguf"))
        if len(files) != 1:
            raise ZiaError(f"{folder} has {len(files)} GGUF files, not one: {source.howto}")
        return
    if any(folder.glob("consolidated.*.pth")):  # as Meta released it
        if not (folder / "tokenizer.model").exists():
            raise ZiaError(f"{folder} has no tokenizer.model: put Meta's there")
        return
    for file in _weight_files(folder):
        _check_whole(file)
    for name, digest in (hashes or {}).items():
        if not (folder / name).exists() or sha256_file(folder / name) != digest:
            raise ZiaError(f"{folder / name} is not the file that was fetched: fetch it again")
    if (card := folder / CARD).exists():
        file = folder / "model.safetensors"
        if read_json(card).get("sha256") != sha256_file(file):
            raise ZiaError(f"{file} is not the file that {card} describes: fetch it again")
    if (folder / CONFIG).exists() and "vocab_size" in read_json(folder / CONFIG):
        _check_tokenizer(folder)


def _folder(source: Source, released: Path) -> Path:
    """The model's folder: in $ZIA_WEIGHTS, with the project, or in the hub's cache."""
    places = [source.local, *([released / source.folder] if source.released else [])]
    for folder in places:
        if source.gguf or (folder / source.marker).exists() or (folder / "params.json").exists():
            return folder
    if source.hub is not None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            cached = snapshot_download(source.hub, revision=source.revision, local_files_only=True)
            return Path(cached)
        except (LocalEntryNotFoundError, OSError, ValueError):
            pass
    raise ZiaError(
        f"no weights of {source.name}: {source.local / source.marker} does not exist; "
        f"{source.howto or f'put the model of the hub, {source.hub}, into that folder'}"
    )


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.exists():
        named = sorted(set(read_json(index).get("weight_map", {}).values()))
        for name in named:
            if not (folder / str(name)).exists():
                raise ZiaError(f"{folder} has no {name}, which {INDEX} lists: fetch it again")
        return [folder / str(name) for name in named]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ZiaError(f"{folder} has no *.safetensors: fetch the weights again")
    return files


def _check_whole(file: Path) -> None:
    """Opening it compares the header's sizes with the file's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise ZiaError(f"{file} is not whole ({error!s:.120}): fetch it again") from error


def _check_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # of whichever tokenizer library reads it
        raise ZiaError(
            f"the tokenizer in {folder} cannot be loaded "
            f"({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
            "): fetch tokenizer.json and tokenizer_config.json again"
        ) from error
