"""Runs on a 4-bit backbone: from `zia run --set precision=nf4` to the table, killed and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.alpaca_llama.experiment import EXPERIMENT
from experiments.backbones.language_models import BACKBONES
from experiments.dispatch.in_process import run_one
from experiments.harness import plan, stored, verify
from experiments.harness.registry import InvalidChoiceError
from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.alpaca_llama import world
from tests.training.test_predicted_cost import paper, predictor


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def done(root: Path, method: str, **changes: object) -> stored.StoredRun:
    spec = world.spec(method, precision="nf4", **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


@pytest.mark.parametrize("method", ["zero-init", "random-init", "lora", "adaption-prompt"])
def test_methods_train_on_4_bits(root: Path, method: str) -> None:
    run = done(root, method)
    frozen = done(root, "frozen").result["val_loss"]
    assert run.result["val_loss"] != run.result["val_loss_start"]
    assert (run.result["val_loss_start"] == pytest.approx(frozen, rel=1e-6)) == (
        method != "random-init"
    )
    assert {finding.outcome for finding in verify.verify(run.path)} == {"ok"}
    losses = [record["loss"] for record in run.metrics() if "loss" in record]
    exact = run_one(world.spec(method), root / "runs")
    assert exact.state == "done", exact.reason
    plain = root / "runs" / "alpaca_llama" / world.spec(method).folder_name
    others = [record["loss"] for record in stored.load(plain).metrics() if "loss" in record]
    assert losses != others
    assert losses == pytest.approx(others, rel=0.1)


def test_the_adapter_is_for_the_4_bit_backbone(root: Path) -> None:
    run = done(root, "zero-init", peak_lr=1.0)
    assert EXPERIMENT.generate is not None
    kept = [
        p["output"] for p in run.predictions() if p["set"] == "nine" and p["decoding"] == "greedy"
    ]
    assert [answer.adapted for answer in EXPERIMENT.generate(run.path, [], "cpu")] == kept


def test_the_table_has_a_row_of_its_own(root: Path) -> None:
    done(root, "zero-init")
    assert run_one(world.spec("zero-init"), root / "runs").state == "done"
    table = markdown(document("efficiency", read_runs([root / "runs"])))
    assert "| zero-init (peak_lr 0.01, precision nf4)" in table, table


def test_full_fine_tuning_is_refused_in_a_sentence(root: Path) -> None:
    outcome = run_one(world.spec("full", precision="nf4"), root / "runs")
    assert outcome.state == "failed"
    assert outcome.reason.startswith("Full fine-tuning trains the backbone's weights, and these")


def test_without_bitsandbytes_the_run_names_the_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    outcome = run_one(world.spec("zero-init", precision="nf4"), root / "elsewhere")
    assert outcome.state == "failed"
    assert outcome.reason == (
        "4-bit weights need bitsandbytes, which is not installed; install "
        "zero-init-attention[4bit], or choose another precision."
    )


def test_encoders_name_the_precisions_that_they_have() -> None:
    with pytest.raises(InvalidChoiceError, match=r"setting precision.*fp32.*bf16"):
        plan.choose("squad_roberta", "paper", "cuda", settings={"precision": "nf4"})


def test_a_killed_run_continues_with_the_same_losses(root: Path, tmp_path: Path) -> None:
    whole = done(root, "zero-init", epochs=4.0)
    command = "import sys; from experiments.dispatch.in_process import run_one; "
    command += "from pathlib import Path; from tests.alpaca_llama import world; "
    command += "run_one(world.spec('zero-init', precision='nf4', epochs=4.0), Path(sys.argv[1]))"
    worker = subprocess.Popen([sys.executable, "-c", command, str(tmp_path)], env=os.environ)
    folder = tmp_path / "alpaca_llama" / whole.path.name
    deadline = time.monotonic() + 240
    while not (folder.exists() and stored.checkpoint_step(folder) >= 2):
        assert worker.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    spec = world.spec("zero-init", precision="nf4", epochs=4.0)
    assert run_one(spec, tmp_path).state == "done"
    assert len(stored.load(folder).status["attempts"]) == 2
    for name in (stored.METRICS, stored.PREDICTIONS, stored.ADAPTER):
        assert (folder / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_llama_7b_takes_3_9_gb_and_trains_on_a_24_gb_card() -> None:
    """6,476,005,376 weights in the blocks at 4.127 bits, the others in bfloat16."""
    assert not (BACKBONES["llama-7b"].local / "config.json").exists()
    found = predictor("alpaca_llama").computed(paper("alpaca_llama", "zero-init", precision="nf4"))
    blocks, others, adapter = 6_476_005_376, 2 * 32_000 * 4096 + 65 * 4096, 1_229_760
    assert found.weights == pytest.approx(blocks * 4.127 / 8 + 2 * others + 4 * adapter, rel=1e-3)
    assert found.peak < 0.6 * 25.3e9
    half = predictor("alpaca_llama").computed(paper("alpaca_llama", "zero-init"))
    assert found.step_flops == half.step_flops
    assert half.peak - found.peak == pytest.approx(half.weights - found.weights, rel=0.01)
