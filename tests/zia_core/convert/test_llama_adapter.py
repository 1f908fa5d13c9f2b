"""Official checkpoints: the golden tensors of a reference in their format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zia_core.backbones import build, inputs
from tests.zia_core.test_golden import close, golden, load
from zia_core import ZiaError, detach, zero_init_layers
from zia_core.convert import from_llama_adapter

__all__ = ["golden"]  # a fixture
SIZES = {"prompt_length": 5, "tanh": True}


def official(layers: int = 3, heads: int = 4, prompts: int = 10) -> dict[str, Tensor]:
    """The file of an adapter with five prompts in the topmost two layers, and unused gates."""
    torch.manual_seed(4)
    gates = {f"layers.{n}.attention.gate": torch.randn(1, heads, 1, 1) for n in range(layers)}
    return {"adapter_query.weight": torch.randn(prompts, 48), **gates}


def test_golden_logits(golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Only prompts and gates come from the file; the base model is the reference's."""
    names = [n for n in golden if "adapter_query" in n or n.endswith(".gate")]
    file = {
        n.removeprefix("weights/"): torch.from_numpy(golden[n]) for n in names if "weights/" in n
    }
    torch.save({"model": file}, tmp_path / "official.pth")
    model = detach(load(golden))
    error = from_llama_adapter(model, tmp_path / "official.pth", **SIZES)
    assert error < 1e-12
    ids = torch.from_numpy(golden["examples"])
    close(model(input_ids=ids).logits, golden["logits"])
    detach(model)
    from_llama_adapter(model, tmp_path / "official.pth", prompt_length=5, tanh=False)
    with pytest.raises(AssertionError):
        close(model(input_ids=ids).logits, golden["logits"])


def test_layers_heads_and_tanh(tmp_path: Path) -> None:
    file = official()
    torch.save(file, tmp_path / "official.pth")
    model = build("llama-gqa")
    from_llama_adapter(model, tmp_path / "official.pth", prompt_length=5, tanh=False)
    layers = zero_init_layers(model)
    for i, layer in enumerate(layers):
        assert torch.equal(layer.prompt, file["adapter_query.weight"][5 * i : 5 * i + 5])
        assert torch.equal(layer.strength(), file[f"layers.{i + 1}.attention.gate"].flatten())
    assert len(layers) == 2
    model(**inputs("llama-gqa"))


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda f: f.pop("adapter_query.weight"), {}, "it has no adapter_query.weight"),
        (lambda f: None, {"prompt_length": 4}, "has 10 prompts, which are not 4 for each"),
        (lambda f: None, {"prompt_length": 2}, "of at most 3 layers; give its own"),
        (lambda f: f.pop("layers.1.attention.gate"), {}, "has no gate for layer 1"),
        (lambda f: f.update(official(heads=8)), {}, r"gate has the shape \(8,\) where .* \(4,\)"),
        (lambda f: f.update({"adapter_query.weight": torch.ones(10, 8)}), {}, "another size"),
        (lambda f: f.update(step=3), {}, "does not hold named tensors"),
    ],
)
def test_other_files_are_refused(change: Any, options: Any, says: str, tmp_path: Path) -> None:
    file = official()
    change(file)
    torch.save(file, tmp_path / "official.pth")
    model = build("llama-gqa")
    with pytest.raises(ZiaError, match=says):
        from_llama_adapter(model, tmp_path / "official.pth", **(SIZES | options))
    assert not zero_init_layers(model)


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"adapter_query.weight": Harmful(tmp_path / "harm")}, tmp_path / "official.pth")
    with pytest.raises(ZiaError, match=r"official\.pth is not a file of weights alone\.$"):
        from_llama_adapter(build("llama-gqa"), tmp_path / "official.pth", **SIZES)
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ZiaError, match="There is no file"):
        from_llama_adapter(build("llama-gqa"), tmp_path / "nothing.pth", **SIZES)
