"""The recipes of zia_core/RECIPES.md do what they say, executed exactly as printed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.zia_core.examples_hub import files
from zia_core import ZiaError, load_adapter, save_adapter
from zia_core.wrappers import own_parameters

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEXTS = (  # of many lengths, so that means over each rank's own labels would differ
    "the cat sat on the mat", "a dog", "the dog sat on a log, the cat did not", "birds sing",
    "fish", "the sun is up: it is day", "rain falls on the roof", "a tree",
)  # fmt: skip
RECIPE = re.compile(r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node")


@pytest.fixture(scope="module")
def recipes(repository: Path) -> dict[str, str]:
    """The programs by their headings."""
    text = (repository / "zia_core/RECIPES.md").read_text("utf-8")
    found = dict(RECIPE.findall(text))
    assert len(found) == text.count("\n## ")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


def filled(folder: Path) -> Path:
    """With data, and a tiny model where the recipes look for theirs."""
    model = folder / NAME
    model.mkdir(parents=True)
    for name, content in files(30).items():
        (model / name).write_bytes(content)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.eos_token = "?"
    tokenizer.save_pretrained(model)
    (folder / "train.txt").write_text("\n".join(TEXTS) + "\n")
    pairs = [{"prompt": text[:4], "completion": f"{text[4:]}."} for text in TEXTS]
    (folder / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder


def run(repository: Path, folder: Path, program: str, *launch: str) -> str:
    """Run a recipe in the folder; returns its output."""
    (folder / "recipe.py").write_text(program)
    environment = os.environ | {
        "PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0",
        "PYTHONFAULTHANDLER": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *launch, "recipe.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def bare(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / NAME).eval()


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(input_ids=torch.arange(2, 26).view(2, 12)).logits


def is_adapted(folder: Path, adapter: Path) -> bool:
    """Whether the file, loaded into the bare model, does anything."""
    return not torch.equal(logits(load_adapter(bare(folder), adapter)), logits(bare(folder)))


def test_each_is_short(recipes: dict[str, str]) -> None:
    for title, program in recipes.items():
        assert len([line for line in program.splitlines() if line.strip()]) < 25, title
        assert max(map(len, program.splitlines())) <= 100, title


def test_each_leaves_the_process_group_that_it_joined(recipes: dict[str, str]) -> None:
    """Else a thread of gloo that is not done when the interpreter ends aborts the process."""
    of_ranks = [program for program in recipes.values() if "init_process_group" in program]
    assert len(of_ranks) == 2
    for program in of_ranks:
        assert program.splitlines()[-1] == "distributed.destroy_process_group()"


def test_whoever_joins_a_process_group_leaves_it(repository: Path) -> None:
    joined = []
    for part in ("zia_core", "experiments", "benchmarks", "tests"):
        for path in (repository / part).rglob("*.[pm][yd]"):
            calls = re.findall(r"\b(init|destroy)_process_group\(", path.read_text("utf-8"))
            if "init" in calls and path != Path(__file__):
                joined.append(path.name)
                assert calls.count("destroy") >= calls.count("init"), path
    assert {"RECIPES.md", "ranks.py"} <= set(joined)


def trained(repository: Path, folder: Path, program: str, ranks: int) -> dict[str, Tensor]:
    """What torchrun's processes save, in float64 and once."""
    model = AutoModelForCausalLM.from_pretrained(folder / NAME)
    model.double().save_pretrained(folder / NAME)
    writes = "import zia_core.adapters as a\nw = a.write_atomic\n" + (
        "a.write_atomic = lambda path, *rest: (print('WRITES', path), w(path, *rest))[1]\n"
    )
    said = run(repository, folder, writes + program, *TORCHRUN, str(ranks))
    assert said.count("WRITES out/adapter.safetensors") == 1
    assert is_adapted(folder, folder / "out")
    return load_file(folder / "out/adapter.safetensors")


@pytest.fixture(scope="module")
def of_one_process(
    recipes: dict[str, str], repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    folder = filled(tmp_path_factory.mktemp("alone"))
    return trained(repository, folder, recipes["DistributedDataParallel"], 1)


@pytest.mark.parametrize("title", ["DistributedDataParallel", "FSDP2"])
def test_two_processes_save_once_what_one_does(
    title: str,
    recipes: dict[str, str],
    of_one_process: dict[str, Tensor],
    repository: Path,
    folder: Path,
) -> None:
    found = trained(repository, folder, recipes[title], 2)
    assert found.keys() == of_one_process.keys()
    assert {tensor.dtype for tensor in found.values()} == {torch.float64}
    for name, tensor in of_one_process.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


def test_accelerate_resumes_with_the_same_numbers(
    recipes: dict[str, str], repository: Path, folder: Path
) -> None:
    run(repository, folder, recipes["accelerate"])
    last = folder / "out/epoch-2"
    whole = (last / "adapter.safetensors").read_bytes()
    assert whole != (folder / "out/epoch-1/adapter.safetensors").read_bytes()
    assert not (last / "model.safetensors").exists()
    assert is_adapted(folder, last)
    shutil.rmtree(last)
    run(repository, folder, recipes["accelerate"])
    assert (last / "adapter.safetensors").read_bytes() == whole


def test_trl_trains_on_completions_and_resumes(
    recipes: dict[str, str], repository: Path, folder: Path
) -> None:
    program = recipes["TRL's SFTTrainer"]
    labels = "\nbatch = next(iter(trainer.get_train_dataloader()))\n" + (
        "print('LABELS', (batch['labels'] != -100).sum(1).tolist(), batch['input_ids'].shape)"
    )
    said = run(repository, folder, program + labels)
    (line,) = re.findall(r"LABELS \[(.*?)\]", said)
    lengths = {len(text[4:]) + 2 for text in TEXTS}  # and a stop and an end
    assert {int(count) for count in line.split(",")} <= lengths
    checkpoints = sorted((folder / "out").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    assert len(checkpoints) == 3, "one an epoch"
    whole = load_file(checkpoints[-1] / "adapter.safetensors")
    assert all(".zero_init." in name for name in load_file(checkpoints[0] / "model.safetensors"))
    assert is_adapted(folder, folder / "out")
    shutil.rmtree(checkpoints[-1])
    run(repository, folder, program)
    resumed = load_file(checkpoints[-1] / "adapter.safetensors")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_lora_and_zero_init_are_trained_saved_and_loaded(
    recipes: dict[str, str], repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(recipes["LoRA beside zero-init"], "recipe", "exec"), names)
    trained, loaded = names["model"].eval(), names["loaded"].eval()
    stepped = set(names["optimizer"].state)
    kinds = {name.split(".")[-2] for name, p in trained.named_parameters() if p in stepped}
    assert kinds == {"zero_init", "default"}
    assert all(
        gate.abs().max() > 0
        for n, gate in trained.named_parameters()
        if n.endswith("gate") and "zero_init" in n
    )
    expected = logits(trained)
    assert torch.equal(logits(loaded), expected)
    alone = load_adapter(bare(folder), "out/zero-init")
    from peft import PeftModel

    lora = PeftModel.from_pretrained(bare(folder), "out/lora").eval()
    for part in (alone, lora, bare(folder)):
        assert not torch.equal(logits(part), expected)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ZiaError, match="holds an adapter of PEFT"):
        save_adapter(trained, "out/lora")
    assert own_parameters(trained).keys() == own_parameters(alone).keys()
