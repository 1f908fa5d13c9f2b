import gzip
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.harness import registry, stored
from experiments.harness.executor import run_one
from experiments.harness.publish import SHOWN, Scrubber, compare, main, publish
from experiments.harness.seal import SEAL
from experiments.harness.verify import verify
from tests.harness import toy
from zia_core.errors import ZiaError

HOST, OTHER_HOST = "gpu-node-17.cluster.example", "laptop"


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("ZIA_DATA", "/home/somebody/data")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run that names everything it must not, and one that is not finished."""
    runs = tmp_path / "runs"
    run_one(toy.spec(), runs)
    run_one(toy.spec(fail="error"), runs)
    path = folder(runs)
    environment = json.loads((path / stored.ENVIRONMENT).read_text())
    environment |= {
        "data": {"/home/somebody/data/alpaca/alpaca_data.json": "ab12"},
        "weights": ["/home/somebody/models/w.gguf", "/scratch/somebody/w.safetensors"],
        "log": f"ssh {HOST}:/home/somebody, C:\\Users\\somebody, file:///home/somebody",
        "kept": "https://example.org/models/w at 12 tokens/s, see docs/../README.md",
    }
    (path / stored.ENVIRONMENT).write_text(json.dumps(environment))
    status = stored.read_status(path)
    status["attempts"].append(status["attempts"][0] | {"host": OTHER_HOST})
    (path / stored.STATUS).write_text(json.dumps(status))
    (path / stored.ADAPTER).write_bytes(b"weights")
    return runs


def folder(root: Path) -> Path:
    return root / "toy" / toy.spec().folder_name


def test_no_host_home_or_absolute_path_survives(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    assert published == folder(tmp_path / "published")
    texts = "".join(path.read_text() for path in published.glob("*.json*") if path.suffix != ".gz")
    for secret in (HOST, OTHER_HOST, "somebody", "/scratch", "/home", "C:"):
        assert secret not in texts
    environment = json.loads((published / stored.ENVIRONMENT).read_text())
    assert environment["host"] == "host-1"
    assert list(environment["data"]) == ["$ZIA_DATA/alpaca/alpaca_data.json"]
    assert environment["weights"] == ["~/models/w.gguf", "w.safetensors"]
    assert environment["log"] == "ssh host-1:~, <path>, file://~"
    assert (
        environment["kept"] == "https://example.org/models/w at 12 tokens/s, see docs/../README.md"
    )
    attempts = stored.read_status(published)["attempts"]
    assert [attempt["host"] for attempt in attempts] == ["host-1", "host-2"]


def test_weights_and_owners_stay_and_the_numbers_come_along(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    names = (stored.CONFIG, stored.METRICS, stored.PREDICTIONS, stored.RESULT)
    for name in names:
        assert (published / name).read_bytes() == (folder(runs) / name).read_bytes()
    others = {stored.ENVIRONMENT, stored.STATUS, stored.TIMING, SEAL}
    assert {path.name for path in published.iterdir()} == {*names, *others}
    assert {finding.outcome for finding in verify(published)} == {"ok", "needs data"}


def test_evidence_is_not_rewritten(runs: Path, tmp_path: Path) -> None:
    (published,) = publish(runs, tmp_path / "published")
    (folder(runs) / stored.RESULT).write_text("{}")
    before = (published / stored.RESULT).read_bytes()
    assert publish(runs, tmp_path / "published") == []
    assert (published / stored.RESULT).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (stored.PREDICTIONS, {"id": 1, "reference": "theirs"}, "reference texts .key 'reference'"),
        (stored.CONFIG, toy.spec().to_json() | {"data": "/home/somebody/x"}, "an absolute path"),
    ],
)
def test_what_may_not_be_published_is_refused(
    runs: Path, tmp_path: Path, name: str, content: dict[str, object], said: str
) -> None:
    data = json.dumps(content).encode()
    (folder(runs) / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(ZiaError, match=said):
        publish(runs, tmp_path / "published")
    assert not list(tmp_path.glob("published/*/*"))


def test_the_host_of_every_run_has_its_own_number() -> None:
    scrubber = Scrubber()
    scrubber.collect_hosts([{"host": "a"}, {"attempts": [{"host": "b"}, {"host": "a"}]}])
    assert scrubber.scrub({"of b": ["a and b", "a-b", 1]}) == {
        "of host-2": ["host-1 and host-2", "a-b", 1]
    }


def test_compare_finds_the_first_step_that_differs(runs: Path, tmp_path: Path) -> None:
    specs: Sequence = [toy.spec(), toy.spec(fail="error"), toy.spec(seed=3)]
    assert list(compare(specs, runs, tmp_path / "published")) == []
    publish(runs, tmp_path / "published")
    (same,) = compare(specs, runs, tmp_path / "published")
    assert same == "1 of 1 runs are as published, to the last digit"
    metrics = folder(runs) / stored.METRICS
    lines = metrics.read_text().splitlines(keepends=True)
    more = lines[3].replace("{", '{"gates":[0.5],', 1)  # recorded by one of the two codes only
    metrics.write_text("".join([*lines[:3], more, *lines[4:]]))
    (same,) = compare(specs, runs, tmp_path / "published")
    assert same == "1 of 1 runs are as published, to the last digit"
    metrics.write_text("".join(lines[:-1]))
    none, shorter = compare(specs, runs, tmp_path / "published")
    assert none == "0 of 1 runs are as published, to the last digit"
    assert "differs from the published run at step" in shorter
    metrics.write_text("".join([*lines[:3], '{"loss":7.5,"step":3}\n', *lines[4:]]))
    _, different = compare(specs, runs, tmp_path / "published")
    assert "differs from the published run at step 3: loss 7.5 (published 1.12" in different


def test_of_many_differences_a_few_are_told(tmp_path: Path) -> None:
    specs = [toy.spec(seed=seed) for seed in range(SHOWN + 3)]
    for spec in specs:
        run_one(spec, tmp_path / "runs")
    publish(tmp_path / "runs", tmp_path / "published")
    for metrics in (tmp_path / "runs").glob(f"*/*/{stored.METRICS}"):
        metrics.write_text('{"eval":{"score":7.5},"step":0}\n')
    count, *told, rest = compare(specs, tmp_path / "runs", tmp_path / "published")
    assert count == f"0 of {len(specs)} runs are as published, to the last digit"
    assert len(told) == SHOWN
    assert rest == "and so on: 3 more differ"


def test_the_module_is_a_command(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["publish", str(runs), str(tmp_path / "published")])
    main()
    assert capsys.readouterr().out.strip() == str(folder(tmp_path / "published"))
    monkeypatch.setattr("sys.argv", ["publish", str(runs)])
    with pytest.raises(SystemExit, match="usage: "):
        main()
