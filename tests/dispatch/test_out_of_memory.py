"""Errors of a GPU, injected: which setting to lower, to what; bfloat16 that a card lacks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.dispatch.in_process import Outcome, run_one
from experiments.harness import plan, registry
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.19 GiB of "
    "which 1.05 GiB is free. Including non-PyTorch memory, this process has ...\nSee the docs"
)


def train() -> None:
    raise FULL


def evaluate() -> None:
    raise FULL


def generate() -> None:
    raise FULL


def outcome(
    experiment: str, where: Callable[[], None], runs: Path, monkeypatch: pytest.MonkeyPatch,
    **settings: object,
) -> Outcome:  # fmt: skip
    owner = registry.get(experiment)
    spec = owner.plan("paper", "cuda")[0]
    spec = replace(spec, settings=replace(spec.settings, **settings))

    def run(spec: RunSpec, folder: RunFolder) -> None:
        where()

    monkeypatch.setattr(registry, "experiments", lambda: {experiment: replace(owner, run=run)})
    monkeypatch.setattr(plan, "check_device", lambda spec: None)
    return run_one(spec, runs)


END = "use a larger GPU (a setting changed by --set is another run)"
WORDS = "set checkpoint_activations=true, or set loss_chunk=512"


@pytest.mark.parametrize(
    ("experiment", "where", "settings", "advice"),
    [
        ("alpaca_llama", train, {}, f"lower token_budget from 8192 to 4096, or {WORDS}"),
        ("alpaca_llama", train, {"token_budget": None, "micro_batch_size": 4,
         "checkpoint_activations": True, "loss_chunk": 64}, "lower micro_batch_size from 4 to 2"),
        ("alpaca_llama", evaluate, {}, "lower eval_tokens from 8192 to 4096"),
        ("scienceqa", generate, {}, "lower answered_together from 16 to 8"),
    ],
)  # fmt: skip
def test_a_full_gpu_names_the_setting_and_its_value(
    experiment: str, where: Callable[[], None], settings: dict[str, object], advice: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = outcome(experiment, where, tmp_path, monkeypatch, **settings)
    assert found.state == "failed"
    said = "CUDA out of memory, tried to allocate 2.00 GiB"
    assert found.reason == f"{said}: {advice}, or {END}"
    assert "Traceback" not in capsys.readouterr().err


def test_a_machine_without_room_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allocate() -> None:
        torch.empty(10**15)

    found = outcome("alpaca_llama", allocate, tmp_path, monkeypatch)
    assert found.state == "failed"
    assert found.reason.startswith("the machine's memory does not hold 4,000,000.0 GB more: lower ")
    assert "or use a machine with more of it (a setting changed by --set" in found.reason
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def turing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without bfloat16; torch would emulate it, slowly."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: (
        including_emulation
    ))  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")


@pytest.mark.usefixtures("turing")
@pytest.mark.parametrize("precision", ["bf16", "bf16-autocast", "nf4"])
def test_a_card_without_bfloat16_is_one_sentence(precision: str) -> None:
    spec = registry.get("alpaca_llama").plan("paper", "cuda")[0]
    with pytest.raises(
        ZiaError, match=rf"^precision {precision} needs bfloat16, which this GPU \(Tesla T4\)"
    ):
        plan.check_device(spec.with_settings({"precision": precision}))
    plan.check_device(spec.with_settings({"precision": "fp32"}))
    plan.check_device(spec.with_settings({"precision": precision, "device": "cpu"}))


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ZiaError, match=r"^device cuda: torch finds no GPU here; use --device cpu$"):
        plan.check_device(registry.get("alpaca_llama").plan("paper", "cuda")[0])
