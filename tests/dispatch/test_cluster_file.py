from pathlib import Path

import pytest

from experiments.dispatch import cluster_file
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.harness import registry
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.delenv(cluster_file.VARIABLE, raising=False)


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(text: str) -> Cluster:
        (tmp_path / "cluster.toml").write_text(text)
        return cluster_file.read(tmp_path / "cluster.toml")

    return write_and_read


def test_what_holds_for_all_an_experiment_and_a_backbone(read) -> None:
    asked = read(
        """
        partition = "gpu"
        mem_gb = 20
        setup = ["module load cuda"]
        [experiment.toy]
        mem_gb = 30
        timeout_min = 60
        [backbone."toys/pocket"]
        mem_gb = 40.5
        """
    )
    needs = asked.resources(toy.spec(), "cuda")
    assert (needs.mem_gb, needs.timeout_min, needs.partition) == (40.5, 60, "gpu")
    assert needs.setup == ("module load cuda",)
    assert asked.common.mem_gb == 20.0


def test_defaults_follow_device_and_profile() -> None:
    none = cluster_file.read(None)
    assert none == Cluster()
    needs = none.resources(toy.spec(), "cuda")
    assert (needs.gpus_per_node, needs.mem_gb) == (1, 4.0)
    assert none.resources(toy.spec(), "cpu").gpus_per_node == 0
    assert [none.device("auto", profile) for profile in ("mini", "paper")] == ["cpu", "cuda"]
    with_gpus, without = (Cluster(Resources(gpus_per_node=n)) for n in (2, 0))
    assert with_gpus.device("auto", "mini") == "cuda"
    assert without.device("auto", "paper") == "cpu"
    assert without.device("cuda", "paper") == "cuda"
    with pytest.raises(ZiaError, match="toy: gpus_per_node = 0, but the runs are for cuda"):
        without.resources(toy.spec(), "cuda")


def test_the_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read) -> None:
    read('qos = "low"')
    monkeypatch.setenv(cluster_file.VARIABLE, str(tmp_path / "cluster.toml"))
    assert cluster_file.read(None).common.qos == "low"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitoin = 'gpu'", "'partitoin' is not a key; choose from: partition, account, qos"),
        ("[experiment.toy]\nmem = 3", "'mem' is not a key in [experiment.'toy']; choose from"),
        ("[experiment.tox]\nmem_gb = 3", "there is no experiment 'tox'; choose from: toy"),
        ("experiment = 3", 'experiment must be a table for each name: [experiment."NAME"]'),
        ("[backbone]\nmem_gb = 3", 'backbone must be a table for each name: [backbone."NAME"]'),
        ("timeout_min = '60'", "timeout_min must be a whole number, not '60'"),
        ("timeout_min = true", "timeout_min must be a whole number, not True"),
        ("gpus_per_node = -1", "gpus_per_node must not be less than 0"),
        ("cpus_per_task = 0", "cpus_per_task must be more than 0"),
        ("setup = 'module load'", "setup must be a list of a text, not 'module load'"),
        ("timeout_min = 2", "signal_delay_s must be between 0 and the 120 seconds of timeout_min"),
        ("[experiment.toy]\ntimeout_min = 2", "[experiment.'toy']: signal_delay_s must be between"),
        ('partition = "a\\nb"', "partition must be on one line, without control characters"),
        ('setup = ["a\\nb"]', "setup must be on one line, without control characters"),
        ('qos = "--wrap=id"', "qos '--wrap=id' is not a valid Slurm name"),
        ('account = ""', "account '' is not a valid Slurm name"),
        ("partition", "is not valid TOML"),
    ],
)
def test_errors_are_named(read, text: str, said: str) -> None:
    with pytest.raises(ZiaError) as raised:
        read(text)
    assert "cluster.toml" in str(raised.value)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_the_example_is_one(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    example = cluster_file.read(repository / "cluster.example.toml")
    assert example.common.constraint == "a100|h100"
    planned = registry.get("vtab_vit").plan("paper", "cuda")
    assert example.resources(planned[0], "cuda").timeout_min == 120
    (llama,) = {spec.backbone for spec in registry.get("alpaca_llama").plan("paper", "cuda")}
    assert llama in example.by_backbone


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"nowhere\.toml: No such file"):
        cluster_file.read(tmp_path / "nowhere.toml")
