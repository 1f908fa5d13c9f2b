"""Adapters shared over the hub: with its real client, against one on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.zia_core.backbones import adapted, build
from zia_core import ModelCard, ZiaError, load_adapter, push_adapter, save_adapter
from zia_core.hub import base_model

CARD = ModelCard(["tatsu-lab/alpaca", "my notes"], {"F1": 84.75}, "apache-2.0", "Made by hand.")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer().running() as server:
        yield server


def in_hub(hub: HubServer, home: Path, code: str, token: str = "") -> list[str]:
    """What the code prints in a process that knows this hub; a ZiaError prints its sentence."""
    program = (
        "from pathlib import Path\nimport torch\n"
        "from tests.zia_core.backbones import adapted, build, inputs, open_gates, output\n"
        "from zia_core import *\n"
        "def tried(call):\n"
        "    try: print(call())\n"
        "    except ZiaError as error: print(error)\n"
        f"folder = Path({str(home / 'out')!r})\n"
    )
    own = {"HF_TOKEN": token} if token else {}
    done = hub.python(program + code, home / "home", **own)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_push_and_load_give_the_same_adapter(hub: HubServer, tmp_path: Path) -> None:
    commit, same, moved, before, wrong, none = in_hub(
        hub, tmp_path,
        "model = open_gates(adapted('llama-gqa'), seed=2)\n"
        "save_adapter(model, folder, card=ModelCard(licence='mit'))\n"
        "(folder / 'secret.bin').write_text('stays here')\n"
        "first = push_adapter(folder, 'me/adapter')\nprint(first)\n"
        "def loaded(name): return output(load_adapter(build('llama-gqa'), name), "
        "inputs('llama-gqa'))\n"
        "mine = output(model, inputs('llama-gqa'))\n"
        "print(torch.equal(loaded('me/adapter'), mine))\n"
        "save_adapter(open_gates(adapted('llama-gqa'), seed=3), folder)\n"
        "push_adapter(folder, 'me/adapter')\n"
        "print(torch.equal(loaded('me/adapter@main'), mine))\n"
        "print(torch.equal(loaded('me/adapter@' + first), mine))\n"
        "tried(lambda: loaded('me/adapter@' + 'f' * 40))\n"
        "tried(lambda: loaded('me/none'))\n",
        token="hf_mine",
    )  # fmt: skip
    assert len(commit) == 40
    assert (same, moved, before) == ("True", "False", "True")
    assert "no such revision: me/adapter@ffff" in wrong
    assert "There is no adapter me/none: neither a folder here nor a repository" in none
    files = hub.model("me/adapter").commits[commit]
    assert set(files) - {".gitattributes"} == {
        "adapter.safetensors", "adapter_config.json", "README.md"
    }  # fmt: skip
    assert b"license: mit" in files["README.md"]


def test_pushing_the_model_itself_says_that_the_adapter_is_not_loaded_again(
    hub: HubServer, tmp_path: Path
) -> None:
    said = in_hub(
        hub, tmp_path,
        "import warnings\nmodel = adapted('llama-gqa')\n"
        "with warnings.catch_warnings(record=True) as found:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(2): model.push_to_hub('me/model')\n"
        "print(*(each.message for each in found if 'save_adapter' in str(each.message)))\n",
        token="hf_mine",
    )  # fmt: skip
    assert len(said) == 1
    assert said[0].count("call save_adapter(model, folder) too") == 1
    assert "model.safetensors" in next(reversed(hub.model("me/model").commits.values()))


def test_what_the_hub_refuses_has_a_sentence(hub: HubServer, tmp_path: Path) -> None:
    hub.model("them/gated").commit({"adapter.safetensors": b"0"})
    hub.model("them/gated").gated = True
    hub.model("them/model").commit({"config.json": b"{}"})
    push, gated, other = in_hub(
        hub, tmp_path,
        "save_adapter(adapted('llama-gqa'), folder)\n"
        "tried(lambda: push_adapter(folder, 'me/adapter'))\n"
        "for name in ('them/gated', 'them/model'):\n"
        "    tried(lambda: load_adapter(build('llama-gqa'), name))\n",
    )  # fmt: skip
    assert "log in with `hf auth login` or set $HF_TOKEN" in push
    assert "them/gated is gated: accept its conditions" in gated
    assert "them/model has no adapter.safetensors" in other


def test_the_config_and_the_card_say_what_it_is(tmp_path: Path) -> None:
    model = adapted("llama-gqa")
    model.config._name_or_path, model.config._commit_hash = "owner/llama", "c" * 40
    save_adapter(model, tmp_path, card=CARD)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model"]["name"] == "owner/llama"
    assert config["base_model"]["revision"] == "c" * 40
    assert config["method"] == "zero-init attention"
    assert config["config"]["num_layers"] == model_layers(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for line in ("base_model: owner/llama", "license: apache-2.0", "- F1: 84.75", "Made by hand.",
                 'datasets: ["tatsu-lab/alpaca"]', "tatsu-lab/alpaca, my notes"):  # fmt: skip
        assert line in card


def model_layers(folder: Path) -> int:
    from zia_core.adapters import adapter_file

    return int(adapter_file(folder)[1]["config"]["num_layers"])


def test_a_path_is_not_recorded_and_a_card_of_one_s_own_stays(tmp_path: Path) -> None:
    model = adapted("llama-gqa")
    for name in ("/home/somebody/llama", "C:/models/llama", str(tmp_path)):
        model.config._name_or_path = name
        assert base_model(model)["name"] is None
    save_adapter(model, tmp_path)
    assert "Not stated." in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    save_adapter(model, tmp_path, card=CARD)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_names_and_folders_that_cannot_be_pushed(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="must be owner/name"):
        push_adapter(tmp_path, "name@main")
    with pytest.raises(ZiaError, match=r"no adapter\.safetensors in"):
        push_adapter(tmp_path, "owner/name")


def test_a_missing_folder_is_still_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="There is no adapter at"):
        load_adapter(build("llama-gqa"), tmp_path / "none" / "adapter.safetensors")
