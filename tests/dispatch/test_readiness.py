"""`zia check`: each fault is one sentence and exit code 1."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from experiments.dispatch import readiness
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.harness import plan, registry, weights_check
from experiments.harness.gpus import GPUS
from experiments.harness.needs import WEIGHTS_VARIABLE, Source
from experiments.io.files import sha256_file
from tests.harness.test_device import Zia, zia
from zia_core.errors import ZiaError

__all__ = ["zia"]
MODEL = "pocket-llama"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check sets it for its process."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A writable copy of the pocket LLaMA in $ZIA_WEIGHTS."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    folder = tmp_path / MODEL
    shutil.copytree(readiness.RELEASED / MODEL, folder)
    (folder / "card.json").unlink(missing_ok=True)
    return folder


SOURCE = Source(MODEL, MODEL, howto="copy it")


def test_a_whole_model_is_accepted(model: Path) -> None:
    weights_check.check(SOURCE, readiness.RELEASED)


def test_a_file_that_was_cut_off_is_named(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ZiaError, match=r"model\.safetensors is not whole .*: fetch it again$"):
        weights_check.check(SOURCE, readiness.RELEASED)


def test_a_shard_that_is_listed_but_absent_is_named(model: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ZiaError, match=r"has no model-00001-of-00002\.safetensors, which"):
        weights_check.check(SOURCE, readiness.RELEASED)


def test_a_tokenizer_that_does_not_load_is_named(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    with pytest.raises(ZiaError, match=r"^the tokenizer in .*pocket-llama cannot be loaded"):
        weights_check.check(SOURCE, readiness.RELEASED)


def test_another_file_than_the_card_s_is_refused(model: Path) -> None:
    (model / "card.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ZiaError, match=r"is not the file that .*card\.json describes"):
        weights_check.check(SOURCE, readiness.RELEASED)


def test_a_file_that_changed_since_it_was_fetched_is_named(model: Path) -> None:
    digest = sha256_file(model / "config.json")
    weights_check.check(SOURCE, readiness.RELEASED, {"config.json": digest})
    with pytest.raises(ZiaError, match=r"config\.json is not the file that was fetched"):
        weights_check.check(SOURCE, readiness.RELEASED, {"config.json": digest[:-1] + "x"})


def test_weights_that_are_absent_say_where_to_put_them(model: Path) -> None:
    shutil.rmtree(model)
    with pytest.raises(ZiaError, match=r"^no weights of pocket-llama: .* does not exist; copy it"):
        weights_check.check(SOURCE, readiness.RELEASED)


def problems(cluster: Cluster, gpu: str, **settings: str) -> list[str]:
    gpus = cluster.gpus_for_shards("alpaca_llama", "paper", "cuda")
    specs = plan.planned("alpaca_llama", "paper", "cuda", gpus=gpus)
    specs = [spec.with_settings(settings) for spec in specs]
    (group,) = readiness.groups(specs, cluster, "cuda", GPUS[gpu])
    return group.problems


def test_runs_that_do_not_fit_the_gpu_are_named() -> None:
    found = [each for each in problems(Cluster(), "a100-40gb") if "on the GPU" in each]
    assert [each.split(" needs ")[0] for each in found] == ["adaption-prompt"]
    assert "53.7 GB on the GPU, and a100-40gb has 42" in found[0]
    assert not any("on the GPU" in each for each in problems(Cluster(), "a100"))


def test_runs_that_need_more_memory_than_their_job_asks_for_are_named() -> None:
    asked = Cluster(by_backbone={"llama-7b": {"mem_gb": 16.0}})
    found = [each for each in problems(asked, "a100") if "mem_gb" in each]
    expected = "zero-init needs 19 GB of the machine's memory, and its job asks for 16"
    assert any(each.startswith(expected) for each in found)
    assert not any("mem_gb" in each for each in problems(Cluster(Resources()), "a100"))


def test_each_gpu_has_a_part_of_a_model_in_shards_and_each_process_reads_all_of_it() -> None:
    def on(gpus: int, **asked: float) -> list[str]:
        return problems(Cluster(Resources(gpus_per_node=gpus, **asked)), "a100-40gb")  # type: ignore[arg-type]

    assert not any(each.startswith("full") for each in on(1))
    assert any(
        each.startswith("full needs 44.1 GB on each of 4 GPUs, and a100-40gb has 42: ")
        and each.endswith(", or give jobs more GPUs")
        for each in on(4)
    )
    assert not any(each.startswith("full needs") and "on each" in each for each in on(8))
    host = "full needs 132 GB of the machine's memory, and its job asks for"
    assert any(each.startswith(host) for each in on(4, mem_gb=130.0))
    assert not any("mem_gb" in each for each in on(4, mem_gb=140.0))


def test_weights_are_read_before_they_are_quantised() -> None:
    asked = Cluster(Resources(mem_gb=18.0))
    found = [each for each in problems(asked, "a100", precision="nf4") if "mem_gb" in each]
    assert found[0].startswith("zero-init needs 19 GB of the machine's memory")


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_and_a_silent_slurm_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = plan.planned("alpaca_llama", "paper", "cuda")
    group = readiness.Group("alpaca_llama", specs)
    monkeypatch.setenv("PATH", str(tmp_path))  # without squeue
    runs = tmp_path / "not" / "there"
    (slurm,) = readiness.shared_problems([group], runs, ask_slurm=True)
    assert "squeue" in slurm
    assert not list(readiness.shared_problems([group], runs, ask_slurm=False))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**8))
    (disk,) = readiness.shared_problems([group], runs, ask_slurm=False)
    assert disk.startswith(f"the results need 1.0 GB, and {tmp_path} has 0.1 GB free: make room")


def test_all_of_mini_asks_for_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for laptops; a run's adapter is 5 MB at most, and most are a hundredth of that."""
    group = readiness.Group("all", plan.planned(None, "mini", "cpu"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 10**10, 4 * 10**9))
    assert not list(readiness.shared_problems([group], tmp_path, ask_slurm=False))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 10**10, 10**9))
    (disk,) = readiness.shared_problems([group], tmp_path, ask_slurm=False)
    assert disk.startswith("the results need 2.6 GB")


def test_the_command(zia: Zia) -> None:
    runs = len(registry.get("alpaca_llama").plan("mini", "cpu"))
    assert zia("check alpaca_llama") == (
        0,
        f"alpaca_llama on pocket-llama: {runs} runs, at most 1.2 GB: ready\n",
        "",
    )
    code, out, _ = zia("check squad_roberta --profile paper")
    assert code == 1
    first, *sentences = out.splitlines()
    assert first.startswith("squad_roberta on roberta-large: 44 runs, at most 9.7 GB: ")
    assert sentences[0].startswith("  no weights of roberta-large: ")
    assert zia("check --gpu abacus")[0] == 2
