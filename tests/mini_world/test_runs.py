"""All five experiments on the generated world, through the code of the real data, at a few steps.

The pocket backbones here are smaller still, and random: what is held to is that the pipeline works
and measures, not that anything is learned.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import zia_core.blocks
import zia_core.losses
from experiments.alpaca_llama import plan as alpaca_llama
from experiments.alpaca_llama.data import load_alpaca
from experiments.alpaca_llama.instructions import own_instructions
from experiments.alpaca_llama.subsets import select
from experiments.backbones import small_vit
from experiments.backbones.release import write_backbone
from experiments.backbones.weights import CARD, WEIGHTS
from experiments.coco_caption import plan as coco_caption
from experiments.coco_caption.data import load_captions
from experiments.data.files import DATA_VARIABLE
from experiments.dispatch.in_process import run_one
from experiments.harness import registry, stored, verify
from experiments.harness.spec import RunSpec
from experiments.language.methods import METHODS
from experiments.mini_world import image_tasks
from experiments.mini_world.documents import Library
from experiments.mini_world.provided import data_of
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.llama import task as llama
from experiments.pretrain.pocket_vit import task as pocket_vit
from experiments.pretrain.roberta import task as roberta
from experiments.scienceqa import plan as scienceqa
from experiments.scienceqa import subsets as problem_subsets
from experiments.squad_roberta import plan as squad_roberta
from experiments.vtab_vit import plan as vtab_vit
from tests.zia_core.reads import reads_of_steps
from zia_core.errors import ZiaError

COMMON: dict[str, Any] = {
    "prompt_length": 3,
    "batch_size": 64,
    "epochs": 1.0,
    "warmup_epochs": 0.2,
    "peak_lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
}
LOSSES = (("train", "_first"), ("train", "_last"), ("val", "_start"), ("val", ""))
PICTURES: dict[str, Any] = {
    "num_layers": 2,
    "encoder": "pocket-vit",
    "encoder_device": "cpu",
    "depths": (1, 2),
    "bottleneck": 4,
    "evaluations": 1,
    "new_tokens": 3,
}
# Module of the runs, task, method, backbone, data, settings, fields of the result that say how many
# were scored.
CASES: dict[str, tuple[Any, str, str, str, str, dict[str, Any], dict[str, int]]] = {
    "alpaca_llama": (
        alpaca_llama, "instruct", "zero-init", "pocket-llama", "mini",
        {"num_layers": 2, "answered": 4, "user_oriented": False, "new_tokens": 3}, {},
    ),
    "scienceqa": (
        scienceqa, "qcm-a", "zero-init", "pocket-llama", "mini", PICTURES, {},
    ),
    "coco_caption": (
        coco_caption, "coco", "zero-init", "pocket-llama", "full", PICTURES, {"images": 100},
    ),
    "squad_roberta": (
        squad_roberta, "squad-v2.0", "zero-init", "pocket-roberta", "full",
        {"prefix_dropout": 0.0, "max_length": 96, "stride": 16}, {"questions": 300},
    ),
    "vtab_vit": (
        vtab_vit, "mini_count", "zero-init", "pocket-vit", "full",
        {"num_layers": 2, "protocol": "fact", "resolution": 32, "weight_decay": 0.0}, {},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mini")
    tokenizer = train_tokenizer(map(Library(0).document, range(4000)), 512)
    torch.manual_seed(0)
    weights = folder / "weights"
    weights.mkdir()
    for name, module in (("llama", llama), ("roberta", roberta)):
        settings = module.Settings(dim=24, depth=2, heads=2)
        write_backbone(module.build(settings, tokenizer), tokenizer, weights / f"pocket-{name}")
    shape = pocket_vit.Settings(dim=16, depth=2, heads=2).shape
    encoder = weights / "pocket-vit"
    encoder.mkdir()
    small_vit.write_weights(small_vit.build(shape), encoder / WEIGHTS)
    card = small_vit.card(shape, encoder / WEIGHTS, {})
    (encoder / CARD).write_text(card)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIA_WEIGHTS", str(weights))
        patch.delenv(DATA_VARIABLE, raising=False)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        count = tuple(task for task in image_tasks.MINI if task.name == "mini_count")
        patch.setattr(image_tasks, "MINI", count)
        yield folder


def spec(experiment: str) -> RunSpec:
    module, task, method, backbone, data, settings, _ = CASES[experiment]
    known = registry.get(experiment).settings()
    changes = {name: value for name, value in (COMMON | settings).items() if hasattr(known, name)}
    if experiment in ("scienceqa", "coco_caption"):
        changes = METHODS[method] | changes
    return RunSpec(
        experiment=module.NAME,
        version=module.VERSION,
        task=task,
        method=method,
        backbone=backbone,
        data=data,
        profile="mini",
        seed=0,
        settings=replace(known, **changes),
    )


@pytest.mark.parametrize("experiment", CASES)
def test_a_run_of_mini_needs_neither_data_nor_network(root: Path, experiment: str) -> None:
    run = spec(experiment)
    with reads_of_steps() as reads:
        outcome = run_one(run, root / "runs")
    assert outcome.state == "done", outcome.reason
    assert DATA_VARIABLE not in os.environ
    done = stored.load(root / "runs" / run.experiment / run.folder_name)
    assert done.result["steps"] > 3
    assert reads.found == []  # a GPU would be waited for
    assert reads.together == done.result["steps"]
    assert done.result["train_loss_last"] != done.result["train_loss_first"]
    for name, number in CASES[experiment][-1].items():
        assert done.result[name] == number
    if experiment == "alpaca_llama":
        kept = [p["labels"] for p in done.predictions() if p["set"] == "language"]
        assert len(kept) == 64
        assert done.result["language_loss"] > 0
    # The metrics are computed again from the predictions, beside the world.
    findings = {found.check: found for found in verify.verify(done.path)}
    assert {found.outcome for found in findings.values()} == {"ok"}, findings


@pytest.mark.parametrize("experiment", ["alpaca_llama", "scienceqa"])
def test_settings_that_save_memory_change_rounding_alone(
    root: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    for module in (zia_core.blocks, zia_core.losses):
        counted = partial(_counted, again, module.__name__, module.checkpoint)
        monkeypatch.setattr(module, "checkpoint", counted)
    plain = spec(experiment)
    saving = replace(
        plain, settings=replace(plain.settings, checkpoint_activations=True, loss_chunk=50)
    )
    assert saving.identity != plain.identity
    losses = []
    for run in (plain, saving):
        assert again == []
        assert run_one(run, root / "runs").state == "done"
        result = stored.load(root / "runs" / run.experiment / run.folder_name).result
        losses.append([result[f"{name}_loss{end}"] for name, end in LOSSES])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    steps = stored.load(root / "runs" / saving.experiment / saving.folder_name).result["steps"]
    assert again.count("zia_core.blocks") >= 2 * steps
    assert again.count("zia_core.losses") >= 2 * steps


def _counted(calls: list[str], name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    if torch.is_grad_enabled():  # evaluations have chunks too
        calls.append(name)
    return function(*args, **kwargs)


def test_the_world_s_instructions_are_what_a_run_of_mini_is_asked(root: Path) -> None:
    run = spec("alpaca_llama")
    assert run_one(run, root / "runs").state == "done"
    generate = registry.get("alpaca_llama").generate
    assert generate is not None
    answers = list(generate(root / "runs" / run.experiment / run.folder_name, [], "cpu"))
    asked = own_instructions("mini")
    assert [answer.prompt.split("\n")[0] for answer in answers] == [e.instruction for e in asked]
    # One of each form, about creatures that no instruction of the training set is about.
    assert len({each.instruction.split()[0] for each in asked}) == 6
    with data_of("mini"):
        held_out = {str(record.id) for record in select(load_alpaca(), "mini").validation}
    assert {each.id for each in asked} <= held_out


def test_a_picture_of_the_world_is_captioned(root: Path) -> None:
    run = spec("coco_caption")
    assert run_one(run, root / "runs").state == "done"
    with data_of("mini"):
        image = load_captions("coco").test[0].image
    generate = registry.get("coco_caption").generate_image
    assert generate is not None
    path = root / "runs" / run.experiment / run.folder_name
    (answer,) = generate(path, image, [], "cpu")
    kept = next(p["caption"] for p in stored.load(path).predictions() if p["set"] == "test")
    assert answer.adapted.partition("\n")[0].strip() == kept
    assert DATA_VARIABLE not in os.environ


def test_instructions_keep_the_world_s_splits(root: Path) -> None:
    with data_of("mini"):
        records = load_alpaca()
    splits = select(records, "mini")
    assert [len(part) for part in vars(splits).values()] == [1000, 200, 100]
    assert not {r.id for r in splits.train} & {r.id for r in splits.validation}
    with pytest.raises(ZiaError, match="not the generated world's"):
        select(records[1:], "mini")


def test_exams_of_another_size_are_no_full_data_and_may_be_mini(root: Path) -> None:
    with data_of("mini"):
        found = problem_subsets.select("mini")
        assert [len(part) for part in vars(found).values()] == [900, 150, 300]
        with pytest.raises(ZiaError, match=r"not complete .* use data=reduced-1773"):
            problem_subsets.select("full")
