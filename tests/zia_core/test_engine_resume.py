import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings, trained
from zia_core.checkpoint import read_checkpoint
from zia_core.engine import Interrupted, train
from zia_core.errors import ZiaError


def test_a_killed_run_ends_bitwise_as_an_undisturbed_one(tmp_path: Path, repository: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.zia_core.killed_training", str(tmp_path)],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert seen["undisturbed"] == seen["undisturbed-few"] == 0, finished.stderr

    assert seen["random"] == [-signal.SIGKILL] * 5 + [0], finished.stderr
    undisturbed = FolderJournal(tmp_path / "undisturbed")
    assert len(undisturbed.losses()) == 30
    assert FolderJournal(tmp_path / "random").fingerprint() == undisturbed.fingerprint()

    # 6 steps write 6 + 4 metrics and 6 timing lines in two parts each, and 2 checkpoints.
    assert seen["everywhere"] == [[-signal.SIGKILL, 0]] * 34, finished.stderr
    expected = FolderJournal(tmp_path / "few").fingerprint()
    for n in range(1, 35):
        assert FolderJournal(tmp_path / "everywhere" / str(n)).fingerprint() == expected, n


def test_a_stop_at_any_step_loses_and_repeats_nothing(tmp_path: Path) -> None:
    undisturbed = FolderJournal(tmp_path / "undisturbed")
    whole = train(toy_model(), ToyTask(), toy_settings(), undisturbed)
    after = torch.rand(3)
    for step in range(8):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted, match=f"asked to .stopped after step {step}.") as stopped:
            train(toy_model(), ToyTask(), toy_settings(), FolderJournal(folder, stop_after=step))
        assert stopped.value.step == step
        assert FolderJournal(folder).checkpoints()[-1].stem == f"step-{step:08d}"
        resumed = train(toy_model(), ToyTask(), toy_settings(), FolderJournal(folder))
        assert FolderJournal(folder).fingerprint() == undisturbed.fingerprint()
        # Code after training, such as generation, draws the same numbers too.
        assert torch.equal(torch.rand(3), after)
        assert (resumed.steps, resumed.tokens) == (whole.steps, whole.tokens)
        assert (resumed.first_loss, resumed.last_loss) == (whole.first_loss, whole.last_loss)
        assert resumed.first_evaluation == whole.first_evaluation
        assert resumed.last_evaluation == whole.last_evaluation
        timed = sum(record["seconds"] for record in FolderJournal(folder).read("timing.jsonl"))
        assert resumed.seconds == pytest.approx(timed)


def test_a_finished_run_is_only_read_again(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    model = toy_model()
    first = train(model, ToyTask(), toy_settings(), journal)
    drawn = torch.rand(3)
    before = journal.fingerprint()
    again = toy_model()
    assert train(again, ToyTask(), toy_settings(), journal) == first
    assert torch.equal(torch.rand(3), drawn)
    assert journal.fingerprint() == before
    for name, value in trained(model).items():
        assert torch.equal(trained(again)[name], value)


def test_only_what_training_changes_is_in_a_checkpoint(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    model = toy_model()
    train(model, ToyTask(), toy_settings(), journal)
    tensors, state = read_checkpoint(journal.checkpoints()[-1])
    names = trained(model).keys()
    entries = ("exp_avg", "exp_avg_sq", "step")
    expected = {f"model.{n}" for n in names} | {f"optim.{n}.{e}" for n in names for e in entries}
    assert {name for name in tensors if not name.startswith("rng.")} == expected
    assert state["steps"] == 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("shape", r"for lm_head.weight it has shape \(64, 16\), this model has shape \(64, 32\)"),
        ("missing", r"for model.embed_tokens.weight it has nothing, this model has shape"),
        ("extra", r"for model.norm.weight it has shape \(16,\), this model has nothing"),
    ],
)
def test_another_models_checkpoint_is_refused(tmp_path: Path, change: str, sentence: str) -> None:
    train(toy_model(), ToyTask(), toy_settings(), FolderJournal(tmp_path))
    other = toy_model(hidden_size=32 if change == "shape" else 16)
    if change == "missing":
        other.model.embed_tokens.weight.requires_grad_(True)
    if change == "extra":
        other.model.norm.weight.requires_grad_(False)
    before = trained(other)
    with pytest.raises(ZiaError, match=f"the checkpoint is another model's: {sentence}"):
        train(other, ToyTask(), toy_settings(), FolderJournal(tmp_path))
    assert all(torch.equal(trained(other)[name], value) for name, value in before.items())
