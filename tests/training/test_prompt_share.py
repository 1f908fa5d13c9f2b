"""The share of the prompt term in a run's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.harness.folder import RunFolder
from experiments.training.optimisation import Optimisation
from experiments.training.prompt_share import NAME, first_alone, write_prompt_share
from tests.harness import toy
from tests.zia_core.backbones import VOCABULARY, build, open_gates
from zia_core import ZeroInitConfig, attach
from zia_core.observe import observed

IDS = [torch.arange(3, 8 + n) % (VOCABULARY - 3) + 3 for n in range(20)]


class Texts:
    """Twenty texts of 5 to 24 tokens, padded to the longest of a batch."""

    def __len__(self) -> int:
        return len(IDS)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        texts = [IDS[index] for index in indices]
        return {"input_ids": nn.utils.rnn.pad_sequence(texts, batch_first=True)}


def write(
    root: Path, model: nn.Module, texts: Texts, settings: Optimisation = Optimisation()
) -> Path:
    folder = RunFolder.claim(root, toy.spec(), toy.EXPERIMENT.result_fields)
    assert folder is not None
    with folder:
        write_prompt_share(folder, model, "texts", first_alone(texts), forward, settings)
    return folder.path / NAME


def forward(model: Any, batch: dict[str, Tensor]) -> Any:
    return model(**batch)


def test_it_is_of_the_first_examples_without_padding(tmp_path: Path) -> None:
    config = ZeroInitConfig(prompt_length=5, num_layers=2)
    model = open_gates(attach(build("llama-gqa"), config).eval())
    stored = json.loads(write(tmp_path, model, Texts()).read_text())
    assert stored["of"] == "texts"
    with observed(model) as norms:
        for text in IDS[:16]:
            model(text[None])
    assert stored["share"].keys() == {"1", "2"}
    for layer in (1, 2):
        assert stored["share"][str(layer)] == pytest.approx(norms[layer].share(), rel=1e-5)
    assert min(stored["share"]["2"]) > 0.001


def test_it_is_measured_in_the_precision_of_the_training(tmp_path: Path) -> None:
    seen = []
    model = attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=2)).eval()
    model.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    write(tmp_path, model, Texts(), Optimisation(device="cpu", precision="bf16-autocast"))
    assert seen == [True] * 16


def test_without_gates_there_is_none(tmp_path: Path) -> None:
    assert not write(tmp_path / "bare", build("llama-gqa"), Texts()).exists()
    config = ZeroInitConfig(prompt_length=5, num_layers=2, softmax="joint")
    assert not write(tmp_path / "joint", attach(build("llama-gqa"), config), Texts()).exists()
