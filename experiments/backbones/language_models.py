"""Language backbones by name: where their weights are found, and how language models are loaded.

Encoders for question answering are loaded by `experiments.backbones.text_encoders`.

`$ZIA_WEIGHTS/<name>` (default `weights/<name>` in the project) is a folder in the hub's format or
one with a GGUF file; where there is none, the hub's repository at a pinned revision is asked. A
GGUF is dequantised when loaded: its numbers are not the hub file's, so it has a name of its own.
The pocket models of the profile `mini` are released with the project, in `experiments/mini_world`.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.data import hub
from experiments.harness.provenance import PROJECT, weights_fingerprint
from experiments.io.files import read_json, sha256_file
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS_VARIABLE = "ZIA_WEIGHTS"
RELEASED = Path(__file__).with_name("released")


@dataclass(frozen=True)
class Backbone:
    """A language model or text encoder that an experiment can be run on."""

    name: str
    layers: int
    folder: str  # its folder in $ZIA_WEIGHTS
    hub: str | None = None
    revision: str | None = None
    gguf: bool = False
    howto: str = ""  # how to get the weights without the hub
    released: bool = False  # with the project


_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        # The hub has no LLaMA-1 of Meta's own; this is the usual conversion of it.
        Backbone(
            name="llama-7b",
            layers=32,
            folder="llama-7b",
            hub="huggyllama/llama-7b",
            revision="8416d3fefb0cb3ff5775a7b13c1692d10ff1aa16",
        ),
        Backbone(
            name="smollm2-135m-instruct",
            layers=30,
            folder="smollm2-135m-instruct",
            hub=_SMOLLM2,
            revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        ),
        Backbone(
            name="smollm2-135m-instruct-q4_1",
            layers=30,
            folder="smollm2-135m-instruct",
            gguf=True,
            howto="run `make smollm2`",
        ),
        Backbone(
            name="roberta-large",
            layers=24,
            folder="roberta-large",
            hub="FacebookAI/roberta-large",
            revision="722cf37b1afa9454edce342e7895e588b6ff1d59",
        ),
        Backbone(
            name="roberta-base",
            layers=12,
            folder="roberta-base",
            hub="FacebookAI/roberta-base",
            revision="e2da8e2f811d1448a5b465c236feacd80ffbac7b",
        ),
        Backbone(
            name="distilroberta-base",
            layers=6,
            folder="distilroberta-base",
            hub="distilbert/distilroberta-base",
            revision="fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b",
        ),
        # The package and the hub hold the same file (SHA-256 53aa5117...).
        Backbone(
            name="minilm-l6",
            layers=6,
            folder="minilm-l6",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            howto="run `make minilm`",
        ),
        *(
            Backbone(
                name=f"pocket-{kind}",
                layers=6,
                folder=f"pocket-{kind}",
                howto=f"fetch the project's files again, or run `zia pretrain {kind}` and put the "
                "folder backbone/ of that run there",
                released=True,
            )
            for kind in ("llama", "roberta")
        ),
    )
}


def get(name: str) -> Backbone:
    """The backbone of that name; ZiaError lists the known ones."""
    if name not in BACKBONES:
        raise ZiaError(f"there is no backbone {name!r:.60}; choose from: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def smollm2() -> str:
    """Which SmolLM2 this machine has: the GGUF if its folder holds one and no hub format."""
    folder = _root() / "smollm2-135m-instruct"
    hub_format = (folder / "config.json").exists()
    return "smollm2-135m-instruct" + (
        "-q4_1" if not hub_format and any(folder.glob("*.gguf")) else ""
    )


def load(
    backbone: Backbone, dtype: "torch.dtype", device: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", dict[str, str]]:
    """Load model and tokenizer.

    Returns:
        The model in eval mode, the tokenizer, and the SHA-256 of every weight file by its name.

    Raises:
        ZiaError: the weights are neither here nor to be had from the hub, or damaged.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with one_sentence(backbone):
        where, options, files = source(backbone)
        # Also where `config.json` names code (`auto_map`): it is neither run nor asked about.
        options = options | {"trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if backbone.gguf:
            # Packed weights, which transformers keeps where it has kernels for them, have no
            # gradient and other numbers.
            options["quantization_config"] = GgufConfig(dequantize=True)
        with no_progress_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **options)
    return model.to(device).eval(), tokenizer, weights_fingerprint(files)


def _root() -> Path:
    return Path(os.environ.get(WEIGHTS_VARIABLE) or PROJECT / "weights")


def source(backbone: Backbone) -> tuple[str, dict[str, Any], list[Path]]:
    """What `from_pretrained` is given, its options, and the weight files behind it."""
    folder = _root() / backbone.folder
    if backbone.gguf:
        found = sorted(folder.glob("*.gguf"))
        if len(found) != 1:
            raise ZiaError(
                f"{folder} holds {len(found)} GGUF files instead of the one of {backbone.name}: "
                f"{backbone.howto}, or set ${WEIGHTS_VARIABLE} to a folder that has it"
            )
        return str(folder), {"gguf_file": found[0].name}, found
    if (folder / "config.json").exists():
        return str(folder), {}, _weight_files(folder)
    if backbone.released:
        folder = RELEASED / backbone.name
        if not folder.is_dir():
            raise ZiaError(f"no weights of {backbone.name}: {folder} is missing; {backbone.howto}")
        files = _weight_files(folder)
        card = read_json(folder / "card.json")
        if [sha256_file(file) for file in files] != [card.get("sha256")]:
            raise ZiaError(f"{files[0]} is not the file that {folder / 'card.json'} describes")
        return str(folder), {}, files
    from huggingface_hub import snapshot_download

    assert backbone.hub is not None
    with hub.asked():
        local = snapshot_download(
            backbone.hub,
            revision=backbone.revision,
            allow_patterns=["*.json", "*.safetensors", "tokenizer*"],
        )
    return local, {}, _weight_files(Path(local))


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ZiaError(f"{folder} has a config.json but no *.safetensors: fetch the weights again")
    return files


@contextmanager
def one_sentence(backbone: Backbone) -> Iterator[None]:
    """Every way in which weights can be missing or broken, as one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from safetensors import SafetensorError

    folder = _root() / backbone.folder
    try:
        yield
    except (LocalEntryNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise ZiaError(
            f"no weights of {backbone.name}: {folder} does not exist, and the hub's "
            f"{backbone.hub} cannot be reached ({type(error).__name__}); "
            f"{f'{backbone.howto}, ' if backbone.howto else ''}put the model into that folder, "
            f"set ${WEIGHTS_VARIABLE}, or connect to the network"
        ) from error
    except (SafetensorError, OSError, ValueError, LookupError, ImportError, struct.error) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ZiaError(
            f"the weights of {backbone.name} in {folder} cannot be loaded ({reason[0]:.200}): "
            f"{backbone.howto or 'fetch them again'}"
        ) from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Loading bars would break the run's own. The GGUF reader's has no switch, hence the buffer."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
