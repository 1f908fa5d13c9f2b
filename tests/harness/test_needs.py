"""What planned runs need, and whether it is there."""

from pathlib import Path

import pytest

from experiments.harness import plan as planning
from experiments.harness import registry
from experiments.harness.needs import DataSet, Needs, Source, together

PAPER = {
    "alpaca_llama": (
        {"llama-7b"},
        {"alpaca/alpaca_data.json", "alpaca/user_oriented_instructions.jsonl",
         "vicuna80/question.jsonl", "squad/dev-v1.1.json"},
    ),
    "scienceqa": (
        {"llama-7b", "the image encoder clip-vit-l-14"},
        {"scienceqa/problems.json", "scienceqa/pid_splits.json", "scienceqa/images/train/",
         "scienceqa/images/val/", "scienceqa/images/test/"},
    ),
    "squad_roberta": (
        {"roberta-large"},
        {f"squad/{part}-v{version}.json" for part in ("train", "dev") for version in (1.1, 2.0)},
    ),
}  # fmt: skip


def needs_of(experiment: str, profile: str) -> Needs:
    owner = registry.get(experiment)
    return together(map(owner.needs, planning.planned(experiment, profile, "cuda")))


@pytest.mark.parametrize("experiment", PAPER)
def test_the_paper_s_runs_need_these(experiment: str) -> None:
    needs = needs_of(experiment, "paper")
    weights, paths = PAPER[experiment]
    assert {source.name for source in needs.weights} == weights
    assert {path for data in needs.data for path in data.paths} == paths


def test_vtab_needs_19_tasks_and_coco_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    vtab = needs_of("vtab_vit", "paper")
    assert len(vtab.data) == 19
    assert "vtab/cifar/" in vtab.data[0].paths
    coco = needs_of("coco_caption", "paper")
    assert {"coco/train2014/", "coco/karpathy_train_images.txt"} <= set(coco.data[0].paths)


@pytest.mark.parametrize("experiment", ["alpaca_llama", "vtab_vit", "scienceqa", "coco_caption"])
def test_mini_needs_no_data_and_weights_of_the_project(experiment: str) -> None:
    needs = needs_of(experiment, "mini")
    assert needs.data == ()
    assert needs.weights
    assert all(source.released for source in needs.weights)


def test_a_text_method_needs_no_encoder() -> None:
    specs = planning.planned("scienceqa", "paper", "cuda")
    owner = registry.get("scienceqa")
    text = together(owner.needs(spec) for spec in specs if spec.method.endswith("-text"))
    assert {source.name for source in text.weights} == {"llama-7b"}


def test_a_set_is_optional_only_if_it_is_so_for_every_run() -> None:
    optional, needed = (
        Needs((Source("it", "it"),), (DataSet("set", ("a",), "", int, optional=free),))
        for free in (True, False)
    )
    for order in ([optional, needed], [needed, optional]):
        found = together(order)
        assert [data.optional for data in found.data] == [False]
        assert len(found.weights) == 1


def test_missing_paths_are_found_packed_or_plain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = DataSet("set", ("it/one.json", "it/two.json", "it/images/"), "", int)
    monkeypatch.delenv("ZIA_DATA", raising=False)
    assert data.missing() == list(data.paths)
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    (tmp_path / "it/images").mkdir(parents=True)
    (tmp_path / "it/one.json.gz").touch()
    assert data.missing() == ["it/two.json"]
