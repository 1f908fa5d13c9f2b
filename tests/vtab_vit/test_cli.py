"""`zia` with this experiment: bad input is one sentence, and the exit code says so."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.backbones import vision_models, weights
from experiments.cli import main
from tests.vtab_vit.folders import grey, write_list
from tests.vtab_vit.world import write_weights

Zia = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def zia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zia:
    """`zia("list")` in an empty folder, with a tiny ViT: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    write_weights(tmp_path / "weights" / "small-vit")
    # In place of CLIP, which has no tiny version; no test comes as far as its first image.
    stand_in = replace(vision_models.get("small-vit"), resolution=96)
    monkeypatch.setitem(vision_models.BACKBONES, vision_models.CLIP.name, stand_in)

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zia", *line.split()])
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The task `digits` with its numbers of images, all of them one file."""
    folder = tmp_path / "data" / "vtab" / "digits"
    (folder / "images").mkdir(parents=True)
    for number in range(1797):
        (folder / "images" / f"{number}.png").write_bytes(grey(5))
    write_list(folder, "train800.txt", range(800))
    write_list(folder, "val200.txt", range(800, 1000))
    write_list(folder, "train800val200.txt", range(1000))
    write_list(folder, "test.txt", range(1000, 1797))
    return folder


RUN = "run vtab_vit --profile small --device cpu --method linear --task digits"


def test_a_missing_task(zia: Zia) -> None:
    code, _, error = zia(RUN)
    assert code == 1
    assert "no data for the task digits: " in error
    assert "put the task's images and lists, in the customary VTAB-1k layout, into" in error


def test_a_missing_list(zia: Zia, digits: Path) -> None:
    (digits / "val200.txt").unlink()
    code, _, error = zia(RUN)
    assert code == 1
    assert "cannot read " in error
    assert "val200.txt: No such file" in error


def test_a_label_out_of_range(zia: Zia, digits: Path) -> None:
    lists = digits / "test.txt"
    lists.write_text(lists.read_text().replace("/1002.png 0", "/1002.png 10"))
    code, _, error = zia(RUN)
    assert code == 1
    assert "test.txt, line 3 has the label 10: digits has 10 classes, 0 to 9" in error


def test_a_missing_image(zia: Zia, digits: Path) -> None:
    (digits / "images" / "801.png").unlink()
    code, _, error = zia(RUN)
    assert code == 1
    assert "val200.txt, line 2 names the image " in error


def test_missing_weights(zia: Zia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(weights, "RELEASED", tmp_path / "none")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    code, _, error = zia(RUN)
    assert code == 1
    assert "no weights of small-vit: " in error
    assert "`zia pretrain vit`" in error
    code, _, error = zia("run vtab_vit --profile paper --device cpu --method lora --task dtd")
    assert code == 1
    assert "orig_in21k does not exist, and the hub's timm/vit" in error
    assert "cannot be reached" in error


def test_what_is_typed_wrong(zia: Zia) -> None:
    code, _, error = zia("run vtab_vit --profile small --method vpt --task digits")
    assert code == 2
    assert "there is no method 'vpt' of vtab_vit; choose from: full, linear, bias" in error
    code, _, error = zia(f"{RUN} --set protocol=imagenet")
    assert code == 1
    assert "there is no protocol 'imagenet'; choose from: vpt, fact, half, raw" in error


def test_the_plan_of_the_paper(zia: Zia) -> None:
    code, out, _ = zia("plan vtab_vit --profile paper --device cuda")
    assert code == 0
    assert "1710 planned: 1710 missing" in out
    assert "312 TFLOP/s (a100), 31 % used" in out
    assert "to go, one after another" in out


def test_pretrain_is_the_run_of_its_experiment(zia: Zia) -> None:
    code, out, error = zia("pretrain vit --device cpu")
    assert code == 1
    assert "pretrain_vit/full-cifar10-small-vit-pretrain-s0-" in out
    assert "no CIFAR-10: put cifar10_train_jpeg.npz into the folder cifar10/" in error
    code, _, error = zia("pretrain bert")
    assert code == 2
    assert "there is no model 'bert'; choose from: llama, pocket_vit, roberta, vit" in error
