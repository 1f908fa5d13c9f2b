"""Claims about ScienceQA: lines of its ablations, the image branch, LoRA."""

from pathlib import Path

import pytest

from experiments.report.claims.definition import read_claims
from experiments.report.claims.write import findings
from tests.report.run_folders import VAL_LOSSES, write_ablations, write_scienceqa

AS_PAPER = {
    "10 layers": 56.0,
    "20 layers": 73.0,
    "shared": 84.0,
    "32 layers": 81.0,
    "random-init": 41.0,
    "15 epochs": 82.0,
    "60 epochs": 84.2,
}
NOISE = (-0.1, 0.0, 0.1, 0.05, -0.05)


def verdicts(root: Path, data: str = "full") -> dict[str, tuple[str, str]]:
    """Verdict and evidence of every claim about runs of this data in `small`, by its id."""
    ids = {claim.sentence: claim.id for claim in read_claims()}
    [part] = [part for part in findings([root]).parts if part.title == "small"]
    return {
        ids[str(line[0])]: (str(line[2]), str(line[4]))
        for line in part.grids[0].lines
        if f", {data}, " in str(line[3]) or not line[3]
    }


def write_seeds(
    root: Path,
    changes: dict[str, float],
    seeds: int = 5,
    val_losses: dict[float, float] = VAL_LOSSES,
) -> None:
    """The paper's accuracies and `changes`; a seed's noise differs from line to line."""
    for seed in range(seeds):
        accuracies = AS_PAPER | changes
        noise = NOISE[seed:] + NOISE[:seed]
        shifts = dict(zip(accuracies, (*noise, *noise), strict=False))
        write_ablations(root, {n: a + shifts[n] for n, a in accuracies.items()}, seed, val_losses)


def test_the_paper_s_own_ablations_confirm_its_claims(tmp_path: Path) -> None:
    write_seeds(tmp_path, {})
    found = verdicts(tmp_path)
    names = ("random-init-scienceqa", "layers-help", "last-layers-hurt", "longer-training")
    assert {name: found[name][0] for name in names} == dict.fromkeys(names, "holds")
    # 84 - 41, whatever the noise of five seeds, whose sums are zero in each line
    assert "+43.000 points against random-init" in found["random-init-scienceqa"][1]
    assert "32 layers after 30: -3.000 points" in found["last-layers-hurt"][1]


@pytest.mark.parametrize(
    ("claim", "changes", "part"),
    [
        ("random-init-scienceqa", {"random-init": 90.0}, "validation accuracy"),
        ("layers-help", {"20 layers": 50.0}, "20 layers after 10"),
        ("layers-help", {"20 layers": 86.0}, "30 layers after 20"),
        ("last-layers-hurt", {"32 layers": 85.0}, "32 layers after 30"),
        ("longer-training", {"15 epochs": 86.0}, "accuracy, 30 epochs after 15"),
        ("longer-training", {"60 epochs": 83.0}, "accuracy, 60 epochs after 30"),
    ],
)
def test_each_claim_can_fail_by_each_of_its_parts(
    tmp_path: Path, claim: str, changes: dict[str, float], part: str
) -> None:
    write_seeds(tmp_path, changes)
    verdict, evidence = verdicts(tmp_path)[claim]
    assert verdict == "does not hold"
    [said] = [text for text in evidence.split("; ") if text.startswith(part)]
    assert evidence == said or said.endswith("(does not hold)")


def test_longer_training_needs_the_validation_loss_to_rise(tmp_path: Path) -> None:
    write_seeds(tmp_path, {}, val_losses={1.5: 0.15, 3.0: 0.3, 6.0: 0.2})
    verdict, evidence = verdicts(tmp_path)["longer-training"]
    assert verdict == "does not hold"
    assert evidence.endswith(
        "validation loss, 60 epochs after 30: -0.100 nats against zero-init, as for 30 epochs, "
        "95 % interval -0.100 to -0.100, n=5 (does not hold)"
    )


@pytest.mark.parametrize("changes", [{"60 epochs": 83.8}, {"15 epochs": 84.2}])
def test_a_loss_of_less_than_the_margin_is_no_harm(
    tmp_path: Path, changes: dict[str, float]
) -> None:
    write_seeds(tmp_path, changes)
    assert verdicts(tmp_path)["longer-training"][0] == "holds"


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    write_seeds(tmp_path, {}, seeds=1)
    found = verdicts(tmp_path)
    for name in ("random-init-scienceqa", "layers-help", "last-layers-hurt", "longer-training"):
        assert found[name][0] == "inconclusive"
        assert "1 seed, 5 needed" in found[name][1]


def write_pair(root: Path, task: str, above: float, data: str = "full", **classes: float) -> None:
    for seed, noise in enumerate(NOISE):
        accuracies = {"zero-init": 50.0 + above + noise, "zero-init-text": 50.0}
        for method, accuracy in accuracies.items():
            result = classes if method == "zero-init" else {}
            write_scienceqa(root, method, task, seed, accuracy, data=data, result=result)


@pytest.mark.parametrize(
    ("above", "verdict"), [(2.0, "holds"), (-2.0, "does not hold"), (0.0, "level")]
)
def test_what_the_image_adds_on_the_own_split(tmp_path: Path, above: float, verdict: str) -> None:
    write_pair(tmp_path, "own-split", above, data="reduced-own-split")
    found = verdicts(tmp_path, "reduced-own-split")
    assert found["image-branch-own"][0] == verdict
    # The paper's own claim is about its task alone.
    assert found["image-branch"] == ("no runs", found["image-branch"][1])


@pytest.mark.parametrize(
    ("image", "others", "verdict"),
    [(60.0, 49.8, "holds"), (60.0, 48.0, "does not hold"), (40.0, 50.0, "does not hold")],
)
def test_the_image_branch_adds_and_does_not_hurt(
    tmp_path: Path, image: float, others: float, verdict: str
) -> None:
    write_pair(tmp_path, "qcm-a", 0.0, acc_has_image=image, acc_no_context=others)
    assert verdicts(tmp_path)["image-branch"][0] == verdict


def write_trio(root: Path, sight: str, above: float) -> None:
    """Zero-init, by so many points and a tenth of that in loss ahead of random-init, and LoRA."""
    for seed, noise in enumerate(NOISE):
        for method, accuracy, tuned, last in (
            ("zero-init", 49.8 + noise, 161_532, 0.5),
            ("lora", 50.0, 460_800, 0.4),
            ("random-init", 49.8 - above, 161_280, 0.5 + above / 10 + noise),
        ):
            result = {"tuned_parameters": tuned, "train_loss_last": last}
            write_scienceqa(root, method + sight, "qcm-a", seed, accuracy, result=result)


@pytest.mark.parametrize("sight", ["", "-text"])
def test_lora_and_random_initialisation_on_test_questions(tmp_path: Path, sight: str) -> None:
    write_trio(tmp_path, sight, 4.0)
    found = verdicts(tmp_path)
    assert found["lora-scienceqa"][0] == "holds"  # 0.2 points worse, 0.5 allowed
    assert "161,532 against 460,800 (holds)" in found["lora-scienceqa"][1]
    assert found["random-init-scienceqa-test"][0] == "holds"
    assert found["loss-curves"][0] == "holds"
    assert "training loss: -0.400 nats" in found["loss-curves"][1]


def test_pairs_that_see_images_go_before_pairs_that_do_not(tmp_path: Path) -> None:
    write_trio(tmp_path, "-text", 4.0)
    write_trio(tmp_path, "", -4.0)
    found = verdicts(tmp_path)
    assert found["random-init-scienceqa-test"][0] == "does not hold"
    assert "+4.000" not in found["random-init-scienceqa-test"][1]


def test_a_method_with_images_is_not_compared_with_one_without(tmp_path: Path) -> None:
    for seed in range(5):
        write_scienceqa(tmp_path, "zero-init", "qcm-a", seed, 60.0)
        write_scienceqa(tmp_path, "lora-text", "qcm-a", seed, 40.0)
    assert verdicts(tmp_path)["lora-scienceqa"][0] == "no runs"
    for seed, noise in enumerate(NOISE):
        write_scienceqa(tmp_path, "zero-init-text", "qcm-a", seed, 30.0 + noise)
    assert "accuracy: -10.000 points" in verdicts(tmp_path)["lora-scienceqa"][1]


def test_a_method_whose_loss_did_not_fall_decides_nothing(tmp_path: Path) -> None:
    write_pair(tmp_path, "own-split", 2.0)
    write_scienceqa(tmp_path, "zero-init", "own-split", 5, 55.0, result={"train_loss_last": 2.3})
    verdict, evidence = verdicts(tmp_path)["image-branch-own"]
    assert verdict == "inconclusive"
    assert "zero-init is not trained" in evidence


def test_lines_of_ablations_and_methods_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    """In the profile `paper` both tasks have a zero-init: other settings, other questions."""
    for seed, noise in enumerate(NOISE):
        for method, accuracy in (("zero-init", 84.0 + noise), ("random-init", 41.0)):
            write_scienceqa(tmp_path, method, "ablation", seed, accuracy)
        nine = {"num_layers": 9}
        write_scienceqa(tmp_path, "zero-init", "ablation", seed, 56.0, settings=nine)
    write_pair(tmp_path, "qcm-a", 0.0, acc_has_image=60.0)
    found = verdicts(tmp_path)
    assert found["random-init-scienceqa"][0] == "holds"
    assert found["image-branch"][0] == "holds"


@pytest.mark.parametrize(("always_one_letter", "said"), [(53.0, False), (55.0, True)])
def test_where_neither_method_is_better_than_a_guess_it_is_said(
    tmp_path: Path, always_one_letter: float, said: bool
) -> None:
    result = {"chance_accuracy": 40.0, "majority_accuracy": always_one_letter}
    for seed, noise in enumerate(NOISE):
        for method, accuracy in (("zero-init-text", 54.0), ("random-init-text", 20.0 + noise)):
            write_scienceqa(tmp_path, method, "qcm-a", seed, accuracy, result=result)
    verdict, evidence = verdicts(tmp_path)["random-init-scienceqa-test"]
    assert verdict == "holds"
    assert ("; neither is better than a guess, 55.000" in evidence) is said


def test_whether_the_loss_rises_later_is_asked_of_a_longer_training(tmp_path: Path) -> None:
    falling = {1.5: 0.3, 3.0: 0.2, 6.0: 0.19}
    write_seeds(tmp_path, {}, val_losses=falling)
    for seed, noise in enumerate(NOISE):
        settings = {"epochs": 12.0}
        result = {"val_loss": 0.195 + noise / 100}
        write_scienceqa(
            *(tmp_path, "zero-init-text", "ablation", seed, 84.0), settings=settings, result=result
        )
    verdict, evidence = verdicts(tmp_path)["longer-training"]
    assert verdict == "does not hold"
    # Above that of 60 epochs, below that of 15.
    assert "Does it rise later? yes: 120 epochs after 60: +0.005 nats" in evidence
