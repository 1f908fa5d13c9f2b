"""The rehearsal of a profile has all that the profile has, once and short."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.dispatch import in_process
from experiments.harness import plan, registry, rehearsal
from experiments.harness.publish import publish
from experiments.harness.spec import RunSpec
from experiments.training.optimisation import train_settings
from tests.harness import toy
from zia_core.errors import ZiaError

PROFILES = ("small", "paper")
# What decides which code runs: device, precision, method, model, protocol, data limits.
KEPT = (
    *("batch_size", "token_budget", "micro_batch_size", "precision", "device", "loss_reduction"),
    *("num_layers", "prompt_length", "max_length", "resolution", "protocol", "encoder", "depths"),
    *("projection", "softmax", "gate_init", "hidden_dropout", "evaluated_on", "validate_on"),
)


def _what(spec: RunSpec) -> tuple[str, ...]:
    return spec.experiment, spec.task, spec.method, spec.backbone


def _kept(spec: RunSpec) -> set[tuple[str, str]]:
    return {(k, str(v)) for k, v in asdict(spec.settings).items() if k in KEPT}


def _small_batches(spec: RunSpec) -> RunSpec:
    """On a CPU, where 760 steps of 64 images would take half of the time."""
    settings = spec.settings
    if settings.device != "cpu" or not settings.epochs:
        return spec
    batch, micro, tokens = settings.batch_size, settings.micro_batch_size, settings.token_budget
    smaller = {
        "batch_size": min(batch, 8),
        "micro_batch_size": micro and min(micro, 8 if micro == batch else 4),
        "token_budget": tokens and min(tokens, 1024),
    }
    return replace(spec, settings=replace(settings, **smaller))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_on_every_task_comes_with_its_own_settings(profile: str, device: str) -> None:
    planned = [
        _small_batches(spec)
        for spec in plan.planned(None, profile, device)
        if spec.settings.phase == "final"
    ]
    rehearsed = plan.planned(None, rehearsal.profile_of(profile), device)
    assert {(*_what(s), *sorted(_kept(s))) for s in rehearsed} == {
        (*_what(s), *sorted(_kept(s))) for s in planned
    }
    assert len({replace(s, seed=0).identity for s in rehearsed}) == len(rehearsed)
    assert {s.data for s in rehearsed} == {"sample"}
    if profile == "paper":
        assert len({s.task for s in rehearsed if s.experiment == "vtab_vit"}) == 19


@pytest.mark.parametrize("profile", PROFILES)
def test_whatever_trains_takes_two_steps(profile: str) -> None:
    examples = {"coco_caption": 130}  # five captions of each of 26 images
    for spec in plan.with_requirements(plan.planned(None, rehearsal.profile_of(profile), "cpu")):
        given = replace(spec.settings, peak_lr=0.1, weight_decay=0.0)
        settings = train_settings(given, 0, examples.get(spec.experiment, 128))
        assert settings.total_steps == (0 if spec.method == "frozen" else 2), spec
        assert settings.checkpoint_every == 1


def test_a_rehearsal_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    for spec in (toy.spec(), *plan.planned("toy", "mini-rehearsal", "cpu")[:1]):
        assert in_process.run_one(spec, tmp_path / "runs").state == "done"
    with pytest.raises(ZiaError, match=f"{spec.folder_name} is a rehearsal, not a result: move it"):
        publish(tmp_path / "runs", tmp_path / "published")
    assert not list((tmp_path / "published").glob("*.zip"))
