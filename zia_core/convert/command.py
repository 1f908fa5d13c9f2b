"""Convert an adapter file for a model in a folder: what `zia convert` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zia_core.adapters import load_adapter, save_adapter
from zia_core.convert import from_litgpt, from_llama_adapter, from_peft, to_peft
from zia_core.errors import ZiaError

SOURCES = ("llama-adapter", "peft", "litgpt", "zia")


def convert(
    source: Path,
    model: str,
    out: Path,
    kind: str,
    prompt_length: int | None = None,
    tanh: bool | None = None,
) -> str:
    """Read an adapter of one kind and write the other: zia_core's, or PEFT's if it is that.

    Args:
        source: the file or folder of the adapter.
        model: folder or hub name of its base model.
        out: the folder to write.
        kind: one of `SOURCES`.
        prompt_length: K, for a LLaMA-Adapter checkpoint.
        tanh: whether its gates were trained under a tanh.

    Returns:
        A line with the path and the conversion's error.

    Raises:
        ZiaError: something is missing, or the target cannot express the source.
    """
    if kind not in SOURCES:
        raise ZiaError(f"There is no kind {kind!r} of adapter; choose {', '.join(SOURCES)}.")
    if kind == "llama-adapter" and (prompt_length is None or tanh is None):
        raise ZiaError(
            "A LLaMA-Adapter checkpoint tells neither its prompts per layer nor whether its gates "
            "were trained under a tanh: give --prompt-length (10 in the released one) and --tanh "
            "(the official training code) or --no-tanh (its inference code)."
        )
    base = _load(model)
    if kind == "zia":
        load_adapter(base, source)
        error = to_peft(base, out)
        return f"{out} for PEFT; {_said(error)}"
    if kind == "peft":
        error = from_peft(base, source)
    elif kind == "litgpt":
        error = from_litgpt(base, source)
    else:
        assert prompt_length is not None
        error = from_llama_adapter(base, source, prompt_length=prompt_length, tanh=bool(tanh))
    return f"{save_adapter(base, out)}; {_said(error)}"


def _said(error: float) -> str:
    return f"largest relative error of a layer's prompt term: {error:.1e}"


def _load(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ZiaError(f"The base model {name} cannot be loaded: {first}") from error
