"""`zia fetch` with the hub's real clients against a hub on loopback."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.backbones.language_models import BACKBONES
from experiments.fetch import command
from experiments.fetch.command import Plan
from experiments.fetch.items import Weights
from experiments.fetch.lock import Lock
from experiments.fetch.repository import HubFile, Listing
from experiments.harness.needs import Needs, Source
from experiments.images.encoders import NAMED
from experiments.language.squad_files import HUB as SQUAD
from experiments.scienceqa.data import SIZES
from tests.backbones.tiny_models import write_causal
from tests.hub_server import HubServer
from tests.hub_stand_ins import parquet
from zia_core.errors import ZiaError

WEIGHTS = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 400, "notes.bin": b"0"}
ROBERTA = BACKBONES["roberta-large"]
TINY_PNG = b"\x89PNG not decoded here"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer().running() as server:
        yield server


def zia(
    hub: HubServer, home: Path, *words: str, command: str = "fetch", profile: str = "paper"
) -> subprocess.CompletedProcess[str]:
    code = "from experiments.cli.main import main\nmain()"
    own = {"ZIA_DATA": str(home / "data"), "ZIA_WEIGHTS": str(home / "weights")}
    options = ("--profile", profile, "--lock", str(home / "lock.json"))
    return subprocess.run(
        [sys.executable, "-c", code, command, *words, *options],
        env=hub.environment(home / "home", **own), capture_output=True, text=True, check=False,
    )  # fmt: skip


def squad_rows(version: str) -> list[dict[str, Any]]:
    rows = [
        {"id": f"q{i}", "title": f"t{i // 4}", "context": f"Ada did {i // 2}.", "question": "Who?",
         "answers": {"text": ["Ada"], "answer_start": [0]}}
        for i in range(8)
    ]  # fmt: skip
    if version == "2.0":
        rows[3]["answers"] = {"text": [], "answer_start": []}
    return rows


def with_squad(hub: HubServer) -> None:
    for version, (name, revision) in SQUAD.items():
        content = parquet(squad_rows(version))
        parts = {f"plain_text/{part}-00000-of-00001.parquet": content
                 for part in ("train", "validation")}  # fmt: skip
        hub.dataset(name).commit(parts, sha=revision)
    hub.model(str(ROBERTA.hub)).commit(WEIGHTS, sha=ROBERTA.revision)


def downloads(hub: HubServer) -> list[str]:
    return [each for each in hub.asked if each.startswith("GET") and "/resolve/" in each]


def test_weights_and_data_arrive_in_official_formats(hub: HubServer, tmp_path: Path) -> None:
    with_squad(hub)
    planned = zia(hub, tmp_path, "squad_roberta", "--dry-run")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert f"roberta-large: 0.1 MB, FacebookAI/roberta-large@{ROBERTA.revision[:12]}" in (
        planned.stdout
    )
    assert "to fetch: 0.1 MB" in planned.stdout
    assert not downloads(hub)
    assert not list(tmp_path.glob("*/*/*.json"))

    done = zia(hub, tmp_path, "squad_roberta")
    assert done.returncode == 0, done.stdout + done.stderr
    weights = tmp_path / "weights" / "roberta-large"
    assert {path.name for path in weights.iterdir()} == {"config.json", "model.safetensors"}
    assert (weights / "model.safetensors").read_bytes() == WEIGHTS["model.safetensors"]
    official = json.loads((tmp_path / "data/squad/train-v2.0.json").read_text())
    assert official["version"] == "v2.0"
    articles = official["data"]
    assert [len(each["paragraphs"]) for each in articles] == [2, 2]
    questions = [q for a in articles for p in a["paragraphs"] for q in p["qas"]]
    assert [q["id"] for q in questions] == [f"q{i}" for i in range(8)]
    assert [q["is_impossible"] for q in questions].index(True) == 3
    lock = json.loads((tmp_path / "lock.json").read_text())
    name, revision = SQUAD["1.1"]
    entry = lock["datasets"][name]
    assert entry["revision"] == revision
    assert set(entry["written"]) == {"squad/train-v1.1.json", "squad/dev-v1.1.json"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in entry["files"].values())
    assert len(downloads(hub)) == 2 * 2 + 2  # each file once, though two sets come from it
    assert not (tmp_path / "data/fetching").exists()

    hub.asked.clear()
    (weights / "model.safetensors").write_bytes(b"changed")
    again = zia(hub, tmp_path, "squad_roberta")
    assert not hub.asked
    assert again.returncode == 1
    assert "is not the file that" in again.stdout


def test_a_moved_revision_is_not_followed(hub: HubServer, tmp_path: Path) -> None:
    from datasets import Image

    def commit(word: str) -> str:
        parts = {}
        for split, size in SIZES.items():
            rows: list[dict[str, Any]] = [
                {"image": None, "question": f"{word}?", "choices": ["a", "b"], "answer": 1,
                 "hint": "", "task": "closed choice", "grade": "grade2",
                 "subject": "natural science"}
                for _ in range(size)
            ]  # fmt: skip
            rows[1]["image"] = {"bytes": TINY_PNG, "path": "image.png"}
            theirs = "validation" if split == "val" else split
            parts[f"data/{theirs}-00000-of-00001.parquet"] = parquet(rows, image=Image())
        return hub.dataset("derek-thomas/ScienceQA").commit(parts)

    for name in (BACKBONES["llama-7b"].hub, NAMED["clip-vit-l-14"]):
        repository, _, revision = str(name).partition("@")
        pinned = revision or BACKBONES["llama-7b"].revision
        hub.model(repository).commit(WEIGHTS, sha=pinned)
    first = commit("old")
    done = zia(hub, tmp_path, "scienceqa")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "data/scienceqa"
    problems = json.loads((folder / "problems.json").read_text())
    assert len(problems) == sum(SIZES.values())
    assert problems["2"]["image"] == "image.png"
    assert problems["1"]["image"] is None
    assert (folder / "images/train/2/image.png").read_bytes() == TINY_PNG
    assert (folder / f"images/val/{SIZES['train'] + 2}/image.png").exists()

    commit("new")
    folder.rename(tmp_path / "away")
    hub.asked.clear()
    assert zia(hub, tmp_path, "scienceqa").returncode == 0
    assert "old?" in (folder / "problems.json").read_text()
    assert downloads(hub)
    assert all(f"/resolve/{first}/" in each for each in downloads(hub))


def test_a_backbone_of_ones_own_is_fetched_and_its_revision_recorded(
    hub: HubServer, tmp_path: Path
) -> None:
    def commit(kind: str) -> str:
        folder = write_causal(tmp_path / kind, kind)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        return hub.model("owner/tiny").commit(files)

    asked = ("alpaca_llama", "--backbone", "owner/tiny", "--template", "chat")
    first = commit("qwen3")
    done = zia(hub, tmp_path, *asked, profile="mini")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"owner/tiny@{first}: done" in done.stdout
    folder = tmp_path / "weights" / f"owner--tiny@{first}"
    names = {file.name for file in (tmp_path / "qwen3").iterdir()}
    assert {file.name for file in folder.iterdir()} == names >= {"chat_template.jinja"}
    entry = json.loads((tmp_path / "lock.json").read_text())["models"]["owner/tiny"]
    assert entry["revision"] == first
    assert set(entry["files"]) == names

    # The branch moves and the network goes: what was recorded is what runs are made with.
    second = commit("llama")
    hub.asked.clear()
    ready = zia(hub, tmp_path, *asked, command="check", profile="mini")
    assert f"alpaca_llama on owner/tiny@{first}: " in ready.stdout
    assert ready.returncode == 0, ready.stdout + ready.stderr
    assert not hub.asked
    (folder / "config.json").write_text("{}")
    changed = zia(hub, tmp_path, *asked, command="check", profile="mini")
    assert changed.returncode == 1

    # Another revision is recorded beside it.
    other = zia(hub, tmp_path, "alpaca_llama", "--backbone", f"owner/tiny@{second}",
                profile="mini")  # fmt: skip
    assert other.returncode == 0, other.stdout + other.stderr
    models = json.loads((tmp_path / "lock.json").read_text())["models"]
    assert models["owner/tiny"] == entry
    assert models[f"owner/tiny@{second}"]["revision"] == second


def test_faults_on_the_way_are_overcome_or_named(hub: HubServer, tmp_path: Path) -> None:
    with_squad(hub)
    hub.faults["model.safetensors"] = ["cut", 429, "wrong"]
    hub.retry_after = "1"
    done = zia(hub, tmp_path, "squad_roberta")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "model.safetensors of FacebookAI/roberta-large arrived damaged" in done.stdout
    assert not (tmp_path / "weights/roberta-large").exists()
    assert (tmp_path / "data/squad/dev-v1.1.json").exists()  # one failure does not stop the others
    hub.asked.clear()
    assert zia(hub, tmp_path, "squad_roberta").returncode == 0
    arrived = tmp_path / "weights/roberta-large/model.safetensors"
    assert arrived.read_bytes() == WEIGHTS["model.safetensors"]
    assert [each for each in downloads(hub) if "config.json" in each] == []  # was there already


def test_what_the_hub_refuses_has_a_sentence_each(hub: HubServer, tmp_path: Path) -> None:
    hub.model("owner/gated").commit(WEIGHTS)
    hub.model("owner/gated").gated = True
    hub.model("owner/open").commit(WEIGHTS)
    hub.model("owner/busy").commit(WEIGHTS)
    code = (
        "from pathlib import Path\n"
        "from experiments.fetch.repository import download, listing\n"
        "from zia_core.errors import ZiaError\n"
        "for name, revision in (('owner/none', None), ('owner/gated', None), "
        "('owner/open', 'f' * 40)):\n"
        "    try: download(listing('models', name, revision, ['*.json']), Path('/nowhere'))\n"
        "    except ZiaError as error: print(error)\n"
    )
    done = hub.python(code, tmp_path)
    none, gated, revision = done.stdout.splitlines()
    assert "the hub has no owner/none, or it is private" in none
    assert f"owner/gated is gated: accept its conditions at {hub.url}/owner/gated" in gated
    assert "`hf auth login` or set $HF_TOKEN" in gated
    assert f"owner/open has no revision {'f' * 40}" in revision


def weights_of(size: int) -> Weights:
    listed = Listing("models", "o/n", "0" * 40, (HubFile("model.safetensors", size, None, None),))
    return Weights(Source("it", "it", hub="o/n"), listed)


def test_a_full_disk_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=10**9), rmtree=None)
    monkeypatch.setattr(command, "shutil", usage)
    Plan(Lock(tmp_path / "lock"), items={"it": weights_of(10**9)}).check_room()
    plan = Plan(Lock(tmp_path / "lock"), items={"it": weights_of(13 * 10**9)})
    with pytest.raises(ZiaError, match=r"has 1\.0 GB free and 13\.0 GB are needed: make room"):
        plan.check_room()
    # What an interrupted fetch left is counted.
    (tmp_path / "fetching/it").mkdir(parents=True)
    (tmp_path / "fetching/it/part").write_bytes(bytes(1000))
    Plan(Lock(tmp_path / "lock"), items={"it": weights_of(10**9 + 1000)}).check_room()


def test_data_need_a_place_and_a_lock_must_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.alpaca_llama.needs import ALPACA

    monkeypatch.delenv("ZIA_DATA", raising=False)
    plan = Plan(Lock(tmp_path / "lock"))
    plan.add(Needs((), (ALPACA,)))
    assert plan.problems == ["set $ZIA_DATA to the folder where data sets go"]
    (tmp_path / "lock").write_text('{"models": {"a/b": {"revision": 1}}}')
    with pytest.raises(ZiaError, match="a/b needs a revision and files"):
        Lock.read(tmp_path / "lock")
