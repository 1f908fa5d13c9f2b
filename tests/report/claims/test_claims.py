import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.harness import registry
from experiments.mini_world.image_tasks import MINI
from experiments.report.claims.definition import Arithmetic, Comparison, read_claims
from experiments.report.claims.write import findings, write_claims
from experiments.report.document import markdown
from experiments.vtab_vit.tasks import VTAB_1K
from tests.report.run_folders import ENVIRONMENT, write_run, write_squad, write_vtab
from zia_core.errors import ZiaError

NOISE = (-0.2, -0.1, 0.0, 0.1, 0.2)


def verdicts(root: Path, profile: str = "small") -> dict[str, tuple[str, str]]:
    """Verdict and evidence of every claim in a profile, by the claim's id."""
    ids = {claim.sentence: claim.id for claim in read_claims()}
    document = findings([root])
    [part] = [part for part in document.parts if part.title == profile]
    return {ids[str(line[0])]: (str(line[2]), str(line[4])) for line in part.grids[0].lines}


def write_seeds(
    root: Path, method: str, accuracies: Sequence[float], task: str = "cifar10"
) -> None:
    for seed, accuracy in enumerate(accuracies):
        write_vtab(root, method, task, seed, accuracy)


def test_every_claim_has_its_words_and_parts() -> None:
    claims = read_claims()
    assert len({claim.sentence for claim in claims}) == len(claims)
    for claim in claims:
        assert claim.source
        assert claim.needs
        # Claims without parts need an experiment or a measurement that does not exist.
        assert bool(claim.parts) == (claim.experiment is not None or claim.computed)
    wanted = {
        "parameters", "parameters-image", "storage", "step-0", "random-init-scienceqa",
        "layers-help", "last-layers-hurt", "longer-training", "image-branch", "training-time",
        "lora-alpaca", "vpt-tasks", "vpt-groups", "p-tuning-v2", "close-to-full", "knowledge",
    }  # fmt: skip
    assert wanted <= {claim.id for claim in claims}


def test_arithmetic_is_computed_without_runs(tmp_path: Path) -> None:
    lines = verdicts(tmp_path, "Arithmetic, at the shape of LLaMA-7B")
    assert {claim: verdict for claim, (verdict, _) in lines.items()} == {
        "parameters": "holds",
        "parameters-image": "holds",
        "storage": "holds",
        "parameters-by-layers": "does not hold",  # the paper's 1.83M for 32 layers
    }
    assert "1,229,760 parameters, 1.23; printed 1.2M" in lines["parameters"][1]
    assert (
        "32 layers: 1,871,744 parameters, 1.87; printed 1.83M (does not hold)"
        in (lines["parameters-by-layers"][1])
    )
    assert all(isinstance(c.parts[0], Arithmetic) for c in read_claims() if c.computed)


def test_without_runs_every_other_claim_is_there_and_has_none(tmp_path: Path) -> None:
    write_vtab(tmp_path, "bias", "cifar10", 0, 50)
    found = verdicts(tmp_path)
    assert set(found) == {claim.id for claim in read_claims() if not claim.computed}
    assert {verdict for verdict, _ in found.values()} == {"no runs"}
    assert "Profiles without runs: mini, paper." in markdown(findings([tmp_path]))


def small_tasks_count(root: Path) -> None:
    write_vtab(root, "linear", "cifar10", 0, 30)
    write_vtab(root, "pixel-probe", "cifar10", 0, 20)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([61 + n for n in NOISE], "holds"),
        ([59 + n for n in NOISE], "does not hold"),
        ([60 + 3 * n for n in (*NOISE[1:], -0.2)], "level"),
        ([60 + 15 * n for n in (*NOISE[1:], -0.2)], "inconclusive"),
        ([61.0, 61.1, 60.9, 61.2], "inconclusive"),  # four seeds
    ],
)
def test_five_paired_seeds_decide(tmp_path: Path, ours: list[float], verdict: str) -> None:
    small_tasks_count(tmp_path)
    write_seeds(tmp_path, "zero-init", ours)
    write_seeds(tmp_path, "vpt-deep", [60.0] * 5)
    found, evidence = verdicts(tmp_path)["vpt-small"]
    assert found == verdict
    # Differences n - 60 have s / sqrt(5) = 0.0707 a unit of noise, here 15, times 2.776 + 0.941.
    five = "; 5 seeds would have shown 3.943 points or more"
    open_end = five if len(ours) == 5 else "; 4 seeds, 5 needed"
    ends = {"level": ", n=5; within -2 and 2 points", "inconclusive": open_end}
    assert evidence.endswith(ends.get(verdict, ", n=5"))


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that vary by ten points, and a method that is always half a point ahead."""
    small_tasks_count(tmp_path)
    base = [40.0, 50.0, 60.0, 70.0, 80.0]
    write_seeds(
        tmp_path, "zero-init", [value + 0.5 + n / 10 for value, n in zip(base, NOISE, strict=True)]
    )
    write_seeds(tmp_path, "vpt-deep", base)
    assert verdicts(tmp_path)["vpt-small"][0] == "holds"


def test_a_small_task_that_does_not_count_is_in_no_claim(tmp_path: Path) -> None:
    small_tasks_count(tmp_path)
    for task, ours, other in (("cifar10", 61, 60), ("digits", 10, 90)):
        for seed, noise in enumerate(NOISE):
            write_vtab(tmp_path, "zero-init", task, seed, ours + noise)
            write_vtab(tmp_path, "vpt-deep", task, seed, other)
    write_vtab(tmp_path, "linear", "digits", 0, 50)
    write_vtab(tmp_path, "pixel-probe", "digits", 0, 50)
    assert verdicts(tmp_path)["vpt-small"][0] == "holds"


def test_margins_say_what_is_still_as_good(tmp_path: Path) -> None:
    for seed, noise in enumerate(NOISE):
        for task, below in (("squad-v1.1", 0.5), ("squad-v2.0", 3.5)):
            write_squad(tmp_path, "zero-init", task, seed, 80 - below + noise)
            write_squad(tmp_path, "full", task, seed, 80)
            write_squad(tmp_path, "p-tuning-v2", task, seed, 79 if task == "squad-v1.1" else 70)
    found = verdicts(tmp_path)
    verdict, evidence = found["close-to-full"]
    assert verdict == "does not hold"
    assert evidence.count("(holds)") == evidence.count("(does not hold)") == 2
    assert "wanted above -3" in evidence
    assert found["p-tuning-v2"][0] == "holds"
    assert found["random-init-squad"][0] == "holds"


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    for seed, noise in enumerate(NOISE):
        for method, loss in (("zero-init", 2.0), ("random-init", 3.0), ("random-init-gate", 1.5)):
            write_run(
                tmp_path,
                method,
                seed,
                task="instruct",
                result={"val_loss": loss + noise / 10 * seed, "val_loss_start": 5.0},
            )
    verdict, evidence = verdicts(tmp_path)["random-init-alpaca"]
    one, gates = evidence.split("; ")
    assert one.endswith("(holds)")
    assert gates.endswith("(does not hold)")
    assert verdict == "does not hold"


@pytest.mark.parametrize(
    ("lora", "many", "said"),
    [
        (1.0, 1.5, "Is it the number of parameters? in part: with 40 prompts: +0.500 nats"),
        (1.0, 2.0, "Is it the number of parameters? no: with 40 prompts: +1.000 nats"),
        (1.0, 1.02, "Is it the number of parameters? yes: with 40 prompts: +0.020 nats"),
        (1.0, None, None),  # not tested
        (2.2, 1.5, None),  # nothing to explain
    ],
)
def test_a_contradicted_claim_says_whether_its_cause_is_one(
    tmp_path: Path, lora: float, many: float | None, said: str | None
) -> None:
    for seed, noise in enumerate(NOISE):
        for method, loss in (("zero-init", 2.0), ("lora", lora), ("zero-init-40", many)):
            if loss is not None:
                result = {"val_loss": loss + noise / 10 * (method == "zero-init-40")}
                write_run(tmp_path, method, seed, task="instruct", result=result)
    evidence = verdicts(tmp_path)["lora-alpaca"][1]
    assert ("Is it the number" in evidence) == (said is not None)
    assert said is None or said in evidence


def test_a_later_part_that_is_contradicted_is_explained_too(tmp_path: Path) -> None:
    losses = {"zero-init": 2.0, "random-init": 3.0, "random-init-gate": 1.5}
    for seed, noise in enumerate(NOISE):
        for method, loss in (losses | {"zero-init-no-tanh": 1.51}).items():
            result = {"val_loss": loss + noise / 10 * (method == "zero-init-no-tanh")}
            write_run(tmp_path, method, seed, task="instruct", result=result)
    verdict, evidence = verdicts(tmp_path)["random-init-alpaca"]
    assert verdict == "does not hold"
    assert "Is it the tanh of the gates? yes: without tanh: +0.010 nats" in evidence


def test_a_part_that_the_cause_is_not_about_is_not_explained_by_it(tmp_path: Path) -> None:
    losses = {"zero-init": 2.0, "random-init": 1.0, "random-init-gate": 3.0}
    for seed, noise in enumerate(NOISE):
        for method, loss in (losses | {"zero-init-no-tanh": 2.0}).items():
            result = {"val_loss": loss + noise / 10 * (method == "zero-init-no-tanh")}
            write_run(tmp_path, method, seed, task="instruct", result=result)
    verdict, evidence = verdicts(tmp_path)["random-init-alpaca"]
    assert verdict == "does not hold"
    assert "Is it" not in evidence


def test_a_count_of_parameters_needs_no_cause(tmp_path: Path) -> None:
    for seed, noise in enumerate(NOISE):
        for method, loss, count in (
            ("zero-init", 1.0, 9),
            ("lora", 2.0, 8),
            ("zero-init-40", 2, 8),
        ):
            result = {"val_loss": loss + noise / 10, "tuned_parameters": count}
            write_run(tmp_path, method, seed, task="instruct", result=result)
    verdict, evidence = verdicts(tmp_path)["lora-alpaca"]
    assert verdict == "does not hold"
    assert "Is it" not in evidence


def test_every_cause_is_about_a_part_of_its_claim() -> None:
    for claim in read_claims():
        if claim.cause is not None:
            parts = [part for part in claim.parts if isinstance(part, Comparison)]
            ours, part = claim.cause.part, parts[claim.cause.explains(parts)]
            assert (ours.field, ours.tasks) == (part.field, part.tasks)
            assert claim.cause.about or ours.other == part.other
            assert ours.direction == part.direction
            assert ours.margin == part.margin
            assert ours.band in (part.band, 0)


LINES = {"scienceqa": ("zero-init, as for 120 epochs",)}  # no method of its own


def test_follow_ups_are_the_methods_that_only_causes_compare() -> None:
    claims = [claim for claim in read_claims() if claim.experiment]
    for name, experiment in registry.experiments().items():
        of_it = [claim for claim in claims if claim.experiment == name]
        compared = {
            method
            for claim in of_it
            for part in claim.parts
            if isinstance(part, Comparison)
            for method in (part.ours, part.other)
        }
        causes = [claim.cause.part for claim in of_it if claim.cause]
        only = {method for part in causes for method in (part.ours, part.other)} - compared
        assert {*experiment.follow_ups, *LINES.get(name, ())} == only, name


def test_step_0_is_equal_to_the_last_bit(tmp_path: Path) -> None:
    start = {"val_loss_start": 2.1870906658223213}
    frozen = start | {"tuned_parameters": 0}
    write_run(tmp_path / "a", task="instruct", result=start)
    write_run(tmp_path / "a", "frozen", task="instruct", result=frozen)
    assert verdicts(tmp_path / "a")["step-0"][0] == "holds"
    write_run(tmp_path / "b", task="instruct", result={"val_loss_start": 2.1870906658223218})
    write_run(tmp_path / "b", "frozen", task="instruct", result=frozen)
    assert verdicts(tmp_path / "b")["step-0"][0] == "does not hold"


@pytest.mark.parametrize(("seconds", "verdict"), [(110.0, "holds"), (150.0, "does not hold")])
def test_time_is_a_ratio_on_one_machine(tmp_path: Path, seconds: float, verdict: str) -> None:
    other = {"cpu": {"model": "Faster CPU"}, "torch": {"threads": 2, "gpus": []}}
    for root, environment in (
        ("one", None),
        ("two", other),
        ("three", ENVIRONMENT | {"timed": False}),
    ):
        for seed, noise in enumerate(NOISE):
            for method, taken in (("zero-init", seconds + noise), ("full", 330.0)):
                write_run(
                    tmp_path / root,
                    method,
                    seed,
                    task="instruct",
                    result={"train_seconds": taken},
                    environment=environment if method == "full" else None,
                )
    assert verdicts(tmp_path / "one")["training-time"][0] == verdict
    found, evidence = verdicts(tmp_path / "two")["training-time"]
    assert found == "inconclusive"
    assert "measured on different machines" in evidence
    found, evidence = verdicts(tmp_path / "three")["training-time"]
    assert found == "inconclusive"
    assert "not timed" in evidence


@pytest.mark.parametrize(
    ("lora", "verdict"), [(980, "does not hold"), (991, "level"), (1009, "level"), (1020, "holds")]
)
def test_parameters_are_compared_exactly_and_are_level_within_1_percent(
    tmp_path: Path, lora: int, verdict: str
) -> None:
    for seed in range(5):
        for method, tuned in (("zero-init", 1000), ("lora", lora)):
            result = {"tuned_parameters": tuned, "val_loss": 2.0 - (method == "zero-init")}
            write_run(tmp_path, method, seed, task="instruct", result=result)
    found, evidence = verdicts(tmp_path)["lora-alpaca"]
    assert found == verdict
    assert f"tuned parameters: 1,000 against {lora:,} ({verdict})" in evidence


def write_official(root: Path, wins: int, tasks: int = 19) -> None:
    for place, task in enumerate(VTAB_1K[:tasks]):
        for method, accuracy in (("zero-init", 50 + (1 if place < wins else -1)), ("vpt-deep", 50)):
            write_vtab(root, method, task.name, 0, accuracy, profile="paper")


@pytest.mark.parametrize(
    ("wins", "verdict"),
    [(16, "holds"), (13, "inconclusive"), (9, "inconclusive"), (3, "does not hold")],
)
def test_the_sign_test_is_across_tasks(tmp_path: Path, wins: int, verdict: str) -> None:
    write_official(tmp_path, wins)
    found, evidence = verdicts(tmp_path, "paper")["vpt-tasks"]
    assert found == verdict
    assert f"ahead on {wins} of 19 tasks" in evidence
    if wins == 16:  # 2 (1 + 19 + 171 + 969) / 2^19
        assert "p = 0.00443" in evidence
    # 14 of 19 have p = 2 (1 + 19 + 171 + 969 + 3876 + 11628) / 2^19 = 0.064; 15 have 0.019
    assert ("; 15 of 19 would have decided" in evidence) == (verdict == "inconclusive")
    assert verdicts(tmp_path, "paper")["vpt-groups"][0] == "inconclusive"  # one seed


def test_the_generated_tasks_stand_in_for_vtab_s_in_mini(tmp_path: Path) -> None:
    generated = [task for task in MINI if task.group != "mini-other"]
    backbone = {"profile": "mini", "backbone": "pocket-vit"}
    for seed in range(5):
        for place, task in enumerate(generated):
            for method, better in (("zero-init", 2 + NOISE[seed]), ("vpt-deep", 0)):
                accuracy = 50 + place + better
                write_vtab(tmp_path, method, task.name, seed, accuracy, **backbone)
            for method, accuracy in (("linear", 40), ("pixel-probe", 30)):
                write_vtab(tmp_path, method, task.name, seed, accuracy, **backbone)
    found = verdicts(tmp_path, "mini")
    verdict, evidence = found["vpt-tasks"]
    assert verdict == "holds"
    assert "(generated tasks, none of VTAB's): ahead on 6 of 6 tasks" in evidence
    verdict, evidence = found["vpt-groups"]
    assert verdict == "holds"
    assert evidence.count("(generated tasks, none of VTAB's): +2") == 3
    # A task whose pixels tell as much is left out.
    for seed in range(5, 8):
        write_vtab(tmp_path, "pixel-probe", generated[0].name, seed, 60, **backbone)
    left = verdicts(tmp_path, "mini")["vpt-tasks"]
    assert left[0] == "inconclusive"
    assert left[1].endswith("ahead on 5 of 5 tasks, sign test p = 0.0625; 6 tasks needed")
    for seed in range(5, 8):
        write_vtab(tmp_path, "linear", generated[0].name, seed, 70, **backbone)
    # And no official task: none has runs.
    write_official(tmp_path, wins=3)
    assert verdicts(tmp_path, "mini")["vpt-tasks"][0] == "holds"
    assert verdicts(tmp_path, "paper")["vpt-tasks"][0] == "does not hold"


def test_a_missing_task_leaves_the_sign_test_open(tmp_path: Path) -> None:
    write_official(tmp_path, wins=18, tasks=18)
    verdict, evidence = verdicts(tmp_path, "paper")["vpt-tasks"]
    assert verdict == "inconclusive"
    assert "1 tasks are missing" in evidence
    assert (
        "Structured: zero-init missing and vpt-deep missing"
        in (verdicts(tmp_path, "paper")["vpt-groups"][1])
    )


def test_a_method_that_was_not_trained_decides_nothing(tmp_path: Path) -> None:
    small_tasks_count(tmp_path)
    write_seeds(tmp_path, "zero-init", [61 + n for n in NOISE])
    for seed in range(5):
        flat = {"train_loss_last": 2.3}
        write_vtab(tmp_path, "vpt-deep", "cifar10", seed, 10, result=flat)
    verdict, evidence = verdicts(tmp_path)["vpt-small"]
    assert verdict == "inconclusive"
    assert "vpt-deep is not trained" in evidence


def test_seeds_of_different_weights_decide_nothing(tmp_path: Path) -> None:
    small_tasks_count(tmp_path)
    write_seeds(tmp_path, "zero-init", [61 + n for n in NOISE])
    for seed in range(5):
        environment = ENVIRONMENT | {"weights": {"model.safetensors": f"digest {seed // 4}"}}
        write_vtab(tmp_path, "vpt-deep", "cifar10", seed, 60, environment=environment)
    verdict, evidence = verdicts(tmp_path)["vpt-small"]
    assert verdict == "inconclusive"
    assert "seeds of vpt-deep have different data or weights" in evidence


def test_a_task_whose_control_is_not_trained_is_in_no_claim(tmp_path: Path) -> None:
    flat = {"train_loss_last": 2.3}
    write_vtab(tmp_path, "linear", "cifar10", 0, 30)
    write_vtab(tmp_path, "pixel-probe", "cifar10", 0, 20, result=flat)
    write_seeds(tmp_path, "zero-init", [61 + n for n in NOISE])
    write_seeds(tmp_path, "vpt-deep", [60.0] * 5)
    assert verdicts(tmp_path)["vpt-small"][0] == "no runs"


def test_profiles_and_data_are_judged_apart(tmp_path: Path) -> None:
    for profile, data, above in (
        ("small", "full", 1),
        ("small", "reduced-1", -1),
        ("mini", "full", 2),
    ):
        for seed, noise in enumerate(NOISE):
            changes = {"profile": profile, "data": data}
            write_squad(tmp_path, "zero-init", "squad-v1.1", seed, 60 + above + noise, **changes)
            write_squad(tmp_path, "p-tuning-v2", "squad-v1.1", seed, 60, **changes)
    document = findings([tmp_path])
    lines = {
        part.title: [
            (line[2], line[3]) for line in part.grids[0].lines if "P-tuning v2 is" in str(line[0])
        ]
        for part in document.parts
    }
    assert lines["mini"] == [("holds", "minilm-l6, full, version 1")]
    assert lines["small"] == [
        ("holds", "minilm-l6, full, version 1"),
        ("does not hold", "minilm-l6, reduced-1, version 1"),
    ]


def test_what_is_printed_and_written_is_the_same_and_the_same_again(tmp_path: Path) -> None:
    write_squad(tmp_path / "runs", "zero-init", "squad-v1.1", 0, 60)
    write_squad(tmp_path / "runs", "p-tuning-v2", "squad-v1.1", 0, 59)
    path, lines = write_claims([tmp_path / "runs"], tmp_path / "out")
    text = path.read_text()
    assert path.name == "claims.md"
    assert "small:" in lines
    [line] = [line for line in lines if "P-tuning v2 is" in line]
    assert line.startswith("  inconclusive: Zero-initialised attention is better")
    assert "v1.1 F1: +1.000 points against p-tuning-v2; 1 seed, 5 needed" in line
    assert "v1.1 F1: +1.000 points against p-tuning-v2; 1 seed, 5 needed |" in text
    again, _ = write_claims([tmp_path / "runs"], tmp_path / "again")
    assert again.read_text() == text


def test_a_damaged_run_stops_or_is_named(tmp_path: Path) -> None:
    run = write_squad(tmp_path / "runs", "zero-init", "squad-v1.1", 0, 60)
    (run / "result.json").write_text("{}")
    with pytest.raises(ZiaError, match=rf"{run.name}/result\.json lacks"):
        write_claims([tmp_path / "runs"], tmp_path / "out")
    path, _ = write_claims([tmp_path / "runs"], tmp_path / "out", keep_going=True)
    assert f"- squad_roberta/{run.name}/result.json lacks" in path.read_text()


def test_a_claim_that_is_not_well_formed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "claims.json"
    claim = {
        "id": "x",
        "title": "",
        "sentence": "",
        "source": "",
        "experiment": None,
        "needs": "",
        "parts": [],
    }
    part = {"kind": "difference", "label": "l"}
    whole = {
        **part, "field": "f1", "ours": "a", "other": "b", "direction": "above", "margin": 0.0,
        "band": 2.0, "unit": "points",
    }  # fmt: skip
    for claims, sentence in (
        ([claim | {"id": 1}], "claim 0: id must be a text"),
        ([claim, claim], "two claims have one id"),
        ([claim | {"title": "a" * 35}], "claim x: its title has over 34 letters"),
        ([claim | {"parts": [part]}], "claim x lacks field"),
        ([claim | {"parts": [whole | {"band": 0.0}]}], "claim x: a difference or a ratio has a"),
        ([claim | {"parts": [whole | {"kind": "exact"}]}], "claim x: a difference or a ratio has"),
        (
            [claim | {"parts": [whole], "cause": {"question": "", "part": whole, "about": "m"}}],
            "claim x: its cause is about 'm', which is no part of it",
        ),
    ):
        file.write_text(json.dumps({"claims": claims}))
        with pytest.raises(ZiaError, match=sentence):
            read_claims(file)
