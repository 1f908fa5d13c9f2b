"""transformers' Trainer with adapter-only checkpoints."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.zia_core.backbones import build
from zia_core import ZeroInitConfig, ZiaError, attach, detach, load_adapter, zero_init_layers

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)


def records(seed: int, count: int) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 61, (count, 8), generator=generator).tolist()
    return [{"input_ids": row, "labels": row} for row in ids]


def trainer(
    folder: Path, model: nn.Module, callbacks: list[Any] | None = None, **options: Any
) -> Any:
    from transformers import Trainer, TrainingArguments, default_data_collator

    from zia_core.hf_trainer import AdapterCheckpoints

    callbacks = [AdapterCheckpoints()] if callbacks is None else callbacks
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=2, learning_rate=0.5, max_steps=6, save_steps=2,
        eval_steps=2, eval_strategy="steps", report_to="none", use_cpu=True, disable_tqdm=True,
        seed=3, **options,
    )  # fmt: skip
    return Trainer(
        model=model, args=arguments, train_dataset=records(1, 12), eval_dataset=records(2, 6),
        data_collator=default_data_collator, callbacks=callbacks,
    )  # fmt: skip


def model() -> nn.Module:
    torch.manual_seed(5)
    return attach(build("llama-gqa"), CONFIG)


def added(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "zero_init" in n}


def test_checkpoints_hold_the_adapter_and_a_resumed_run_is_the_whole_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", model())
    whole.train()
    expected = added(whole.model)
    middle = tmp_path / "whole" / "checkpoint-2"
    assert load_file(middle / "model.safetensors").keys() == expected.keys()
    loaded = load_adapter(build("llama-gqa"), tmp_path / "whole" / "checkpoint-6")
    assert all(torch.equal(value, expected[name]) for name, value in added(loaded).items())
    resumed = trainer(tmp_path / "resumed", model())
    resumed.train(resume_from_checkpoint=str(middle))
    assert resumed.state.global_step == 6
    found = added(resumed.model)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert not torch.equal(
        found[min(found)], added(load_adapter(build("llama-gqa"), middle))[min(found)]
    )
    resumed.save_model(str(tmp_path / "final"))
    assert added(load_adapter(build("llama-gqa"), tmp_path / "final")).keys() == expected.keys()


def test_the_best_checkpoint_is_loaded_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trainer(tmp_path, model(), load_best_model_at_end=True)
    made.train()
    losses = {e["step"]: e["eval_loss"] for e in made.state.log_history if "eval_loss" in e}
    best = min(losses, key=lambda step: losses[step])
    assert best != 6, "the test needs a rate at which the last is not the best"
    assert made.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    expected = load_file(tmp_path / f"checkpoint-{best}" / "adapter.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in added(made.model).items())
    assert made.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-6)
    assert "missing keys" not in caplog.text


def test_after_detach_the_whole_model_is_saved_again(tmp_path: Path) -> None:
    adapted = model()
    trainer(tmp_path, adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter/config.json").exists()
    detach(adapted).save_pretrained(tmp_path / "whole")
    back = type(adapted).from_pretrained(tmp_path / "whole").state_dict()
    assert back.keys() == build("llama-gqa").state_dict().keys()
    assert all(torch.equal(back[n], p) for n, p in build("llama-gqa").state_dict().items())


def test_without_the_callback_a_save_warns_once(tmp_path: Path) -> None:
    made = trainer(tmp_path, model(), callbacks=[])
    with pytest.warns(UserWarning, match="AdapterCheckpoints does"):
        made.save_model(str(tmp_path / "one"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.save_model(str(tmp_path / "two"))


def test_a_bare_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"call attach\(\) before the Trainer"):
        trainer(tmp_path, build("llama-gqa"))
    assert not zero_init_layers(build("llama-gqa"))


def with_lora() -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(5)
    lora = peft.get_peft_model(build("llama-gqa"), peft.LoraConfig(target_modules=["q_proj"]))
    attach(lora, CONFIG)
    lora.set_adapter("default")  # trains LoRA too
    return lora


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def test_lora_and_prompts_are_resumed_together(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", with_lora())
    whole.train()
    expected = trained(whole.model)
    assert {name.split(".")[-2] for name in expected} == {"default", "zero_init"}
    middle = tmp_path / "whole" / "checkpoint-2"
    assert not (middle / "model.safetensors").exists()
    resumed = trainer(tmp_path / "resumed", with_lora())
    resumed.train(resume_from_checkpoint=str(middle))
    found = trained(resumed.model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_the_best_of_lora_and_prompts_is_loaded_and_read_by_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    made = trainer(tmp_path, with_lora(), load_best_model_at_end=True, greater_is_better=True)
    made.train()
    best = made.state.best_model_checkpoint
    assert best == str(tmp_path / "checkpoint-2")  # the largest loss
    loaded = PeftModel.from_pretrained(build("llama-gqa"), best)
    load_adapter(loaded, Path(best) / "zero-init")
    expected = {n: p for n, p in loaded.named_parameters() if "zero_init" in n or "lora_" in n}
    found = {n: p for n, p in made.model.named_parameters() if n in expected}
    assert len(expected) == len(found) == 4 + 2 * 3
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    detach(made.model)
    assert not {"save_pretrained", "load_adapter"} & vars(made.model).keys()
