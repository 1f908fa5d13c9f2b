from typing import Any

import pytest

from experiments.harness.spec import RunSpec
from experiments.vtab_vit import methods, subsets
from experiments.vtab_vit import plan as planning
from experiments.vtab_vit.estimate import estimate
from experiments.vtab_vit.selection import select_runs
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.tasks import SMALL, VTAB_1K

EXPENSIVE = ("full", "bias", "adapter", "sidetune", "lora")  # through the whole model


def test_the_paper_profile_has_all_tasks_methods_and_seeds() -> None:
    plan = planning.plan("paper", "cuda")
    assert len(plan) == 19 * 10 * (4 + 5)
    assert {spec.task for spec in plan} == {task.name for task in VTAB_1K}
    assert {spec.method for spec in plan} == set(methods.METHODS) - {"pixel-probe", "partial"}
    final = [spec for spec in plan if spec.settings.phase == "final"]
    assert {spec.seed for spec in final} == {42, 44, 82, 100, 800}
    for spec in final:
        assert spec.settings.peak_lr is None
        assert (spec.settings.epochs, spec.settings.batch_size) == (100.0, 64)
    hours = [estimate(spec).hours for spec in plan]
    # 1,000 images, 100 epochs, three passes each, and 711 to 73,728 test images.
    speed = 0.31 * 312e12
    arithmetic = [(3 * 100_000 + test) * 35.2e9 / speed / 3600 for test in (711, 73_728)]
    assert all(hour is not None and hour <= 1.01 * arithmetic[1] for hour in hours)
    kitti = next(spec for spec in final if spec.task == "kitti" and spec.method == "full")
    assert estimate(kitti).hours == pytest.approx(arithmetic[0], rel=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_small_profile(device: str) -> None:
    plan = planning.plan("small", device)
    assert len(plan) == 4 * 8 * (5 + 5)
    assert {spec.task for spec in plan} == {task.name for task in SMALL} - {"fashion_mnist"}
    assert {spec.data for spec in plan} == {"reduced-2000" if device == "cpu" else "full"}
    assert {spec.settings.device for spec in plan} == {device}
    assert {spec.backbone for spec in plan} == {"vit_base_patch16_clip_quickgelu_224.int8"}
    assert {spec.settings.resolution for spec in plan} == {96}
    # All methods adapt the same blocks.
    assert {(s.settings.num_layers, s.settings.adapted_blocks) for s in plan} == {(2, 2)}
    for spec in plan:
        rates = [rate for rate, _ in spec.settings.candidates]
        if spec.settings.phase == "final":
            assert len(set(rates)) == 5
            assert max(rates) / min(rates) == pytest.approx(100)


def test_every_method_has_as_many_candidates() -> None:
    assert {len(set(methods.candidates(method))) for method in methods.METHODS} == {4}
    assert {len(set(methods.wide_candidates(method))) for method in methods.METHODS} == {5}


@pytest.mark.parametrize("profile", planning.PROFILES)
def test_what_a_final_run_needs_is_planned_before_it_and_once(profile: str) -> None:
    plan = planning.plan(profile, "cpu")
    identities = [spec.identity for spec in plan]
    assert len(set(identities)) == len(identities)
    before: set[str] = set()
    for spec in plan:
        needed = {select.identity for select in select_runs(spec)}
        assert needed <= before
        each = {"mini": 4 * 6, "small": 5, "paper": 4}[profile]  # of six tasks in `mini`
        assert len(needed) == (each if spec.settings.phase == "final" else 0)
        before.add(spec.identity)


def test_the_defaults_are_the_papers_profile() -> None:
    changed = {"candidates"}
    spec = next(s for s in planning.plan("paper", "cuda") if s.settings.phase == "final")
    for name, value in vars(Settings()).items():
        assert name in changed or getattr(spec.settings, name) == value, name


def test_candidates_are_tried_on_their_own_schedule_with_the_same_share_of_warm_up() -> None:
    final = next(s for s in planning.plan("small", "cpu") if s.settings.phase == "final")
    for select in select_runs(final):
        assert (select.settings.epochs, select.settings.warmup_epochs) == (2.5, 0.25)
    final = next(s for s in planning.plan("paper", "cuda") if s.settings.phase == "final")
    for select in select_runs(final):
        assert (select.settings.epochs, select.settings.warmup_epochs) == (100.0, 10.0)


def test_the_reduced_budget_has_measured_hours() -> None:
    final = next(
        s
        for s in planning.plan("small", "cpu")
        if (s.method, s.settings.phase, s.task) == ("zero-init", "final", "cifar10")
    )
    # Five epochs of 15 s, 2,000 images that are only scored, and 11 s.
    assert estimate(final).hours == pytest.approx((5 * 15 + 15 + 11) / 3600)
    assert all(estimate(spec).hours for spec in planning.plan("small", "cpu"))
    assert estimate(planning.plan("small", "cuda")[0]).hours is None


def test_the_identities_of_published_runs_stay() -> None:
    """A setting that is added must have the old behaviour as its default."""
    settings: dict[str, Any] = {
        "protocol": "fact",
        "resolution": 32,
        "num_layers": 4,
        "visual_prompts": 10,
        "bottleneck": 16,
        "precision": "fp32",
        "epochs": 10.0,
        "warmup_epochs": 1.0,
        "selection_epochs": 5.0,
        "batch_size": 32,
        "micro_batch_size": 32,
        "device": "cpu",
        "candidates": methods.candidates("zero-init"),
    }
    final = RunSpec(
        experiment=planning.NAME,
        version=planning.VERSION,
        task="caltech101_96",
        method="zero-init",
        backbone="small-vit",
        data=subsets.REDUCED,
        profile="small",
        seed=42,
        settings=Settings(**settings),
    )
    assert final.identity == "b3cf1501e0198a7e"
    assert select_runs(final)[0].identity == "522bbaba8b10c15c"
