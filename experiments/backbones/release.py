"""Language backbones of the project's own, as they are released: a folder in the hub's format.

Besides the weights in bfloat16, the configuration and the tokenizer there is `card.json`: recipe,
seed, hash of the weights, and how good they are.
"""

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones.weights import CARD, WEIGHTS, no_progress_bars
from experiments.io.files import sha256_file, write_errors
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FOLDER = "backbone"  # in the folder of the run that trained it
MAX_BYTES = 8_000_000  # of the weights


def write_backbone(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> None:
    """Write the folder in one step, in place of one that is there; ZiaError above 8 MB.

    The model is in bfloat16 afterwards.
    """
    half: Any = model.bfloat16()
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        with write_errors(folder), no_progress_bars():
            half.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
            size = (staging / WEIGHTS).stat().st_size
            if size > MAX_BYTES:
                raise ZiaError(
                    f"the weights take {size:,} bytes, more than the {MAX_BYTES:,} of a release: "
                    "lower dim or depth"
                )
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_backbone(kind: Any, folder: Path) -> Any:
    """Return the released model in float32; `kind` is one of transformers' auto classes."""
    import torch

    with no_progress_bars():
        return kind.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the card of the weights in `folder`: their hash, and `facts`."""
    described = {"sha256": sha256_file(folder / WEIGHTS), **facts}
    with write_errors(folder / CARD):
        (folder / CARD).write_text(
            json.dumps(described, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
