"""Whole runs of the experiment on a tiny ViT, through the same code as the real ones."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from experiments.backbones import weights
from experiments.dispatch.in_process import run_all, run_one
from experiments.harness import stored, verify
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images.task_folder import Example, read_image
from experiments.pretrain.pocket_vit.task import Settings as PocketViT
from experiments.vtab_vit import inputs, loaded_task, methods, plan, tasks
from experiments.vtab_vit.run import RESULT_FIELDS, run
from experiments.vtab_vit.selection import chosen, select_runs
from tests.vtab_vit import world
from tests.vtab_vit.world import done, given, spec
from zia_core import trunk
from zia_core.engine import Interrupted


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


@pytest.fixture
def other_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another task, of the same images."""
    monkeypatch.setitem(tasks.TASKS, "other", replace(world.TASK, name="other"))
    folder = root / "data" / "vtab" / "other"
    if not folder.exists():
        shutil.copytree(root / "data" / "vtab" / "tiny", folder)
        lists = folder / "train800.txt"
        lists.write_text("".join(f"{line}\n" for line in reversed(lists.read_text().splitlines())))
    return folder


def losses(run: stored.StoredRun) -> list[float]:
    return [record["loss"] for record in run.metrics() if "loss" in record]


C, BLOCKS, CLASSES, M = 16, 3, 3, 32  # the tiny ViT, and the inner width of its MLPs
HEAD = (C + 1) * CLASSES
NORMS = (2 * BLOCKS + 1) * 2 * C
SIDE = sum(9 * i * o + o for i, o in ((3, 32), (32, 64), (64, 128), (128, 256))) + 256 * C + 1
# Stem of 4, 8 and 16 channels and 2 x 2 projection; class token and positions of 17 tokens.
STEM = sum(9 * i * o for i, o in ((3, 4), (4, 8), (8, 16))) + 4 * C * C + C + 17 * C
STEM_BIASES = 4 + 8 + 16 + C
WEIGHTS = BLOCKS * (4 * C * C + 2 * C * M)
BIASES = BLOCKS * (4 * C + C + M) + NORMS // 2 + STEM_BIASES
EXPECTED = {
    "full": STEM + WEIGHTS + BIASES + NORMS // 2 + HEAD,
    "linear": HEAD,
    "bias": BIASES + HEAD,
    "adapter": 2 * BLOCKS * (2 * 4 * C + 4 + C) + NORMS + HEAD,
    "sidetune": SIDE + HEAD,
    "vpt-shallow": 3 * C + HEAD,
    "vpt-deep": BLOCKS * 3 * C + HEAD,
    "lora": BLOCKS * 2 * 2 * 2 * C + HEAD,
    "zero-init": 2 * (3 * C + 2) + HEAD,
    "random-init": 2 * 3 * C + HEAD,
    "pixel-probe": (3 * 32 * 32 + 1) * CLASSES,
}
# With two of three blocks adapted; the last norm is adapted too.
BLOCK = (WEIGHTS + BIASES - STEM_BIASES - NORMS // 2) // BLOCKS + 4 * C
PARTLY = {
    "partial": 2 * BLOCK + 2 * C + HEAD,
    "bias": 2 * (4 * C + C + M + 2 * C) + C + HEAD,
    "adapter": 2 * 2 * (2 * 4 * C + 4 + C) + 5 * 2 * C + HEAD,
    "vpt-shallow": 3 * C + HEAD,
    "vpt-deep": 2 * 3 * C + HEAD,
    "lora": 2 * 2 * 2 * 2 * C + HEAD,
}


@pytest.mark.parametrize("method", [m for m in methods.METHODS if m != "partial"])
def test_every_method(root: Path, method: str) -> None:
    finished = done(root, given(method))
    result = finished.result
    assert result["tuned_parameters"] == EXPECTED[method]
    assert result["head_parameters"] == (EXPECTED[method] if method == "pixel-probe" else HEAD)
    assert 0 < result["adapter_bytes"] - 4 * EXPECTED[method] < 6000
    assert result["steps"] == len(losses(finished)) == 9  # three epochs of 24 images in eights
    assert result["train_loss_first"] == losses(finished)[0]
    assert result["train_loss_last"] == losses(finished)[-1] != losses(finished)[0]
    assert (result["evaluated_on"], result["images"]) == ("test", 9)
    assert (finished.path / "prompt_share.json").exists() == (method == "zero-init")
    assert result["correct"] == round(9 * result["accuracy"])
    assert [each["id"] for each in finished.predictions()] == [
        f"images/{n}.png" for n in range(24, 33)
    ]
    assert set(finished.environment["data"]) == {"tiny"}
    assert set(finished.environment["weights"]) == {"model.safetensors"}
    assert finished.environment["test_images_that_are_training_images"] == 0
    findings = verify.verify(finished.path)
    assert {finding.outcome for finding in findings} == {"ok"}, findings


def test_zero_init_starts_as_the_linear_probe(root: Path) -> None:
    """The first step's loss is that of the start: the same head, the backbone's own features."""
    start, *after = losses(done(root, given("zero-init")))
    linear_start, *linear_after = losses(done(root, given("linear")))
    assert start == linear_start
    assert after != linear_after
    for other in ("lora", "bias", "full"):
        assert losses(done(root, given(other)))[0] == pytest.approx(start, rel=1e-6)
    for elsewhere in ("random-init", "vpt-deep", "sidetune"):
        assert losses(done(root, given(elsewhere)))[0] != pytest.approx(start, rel=1e-4)
    assert losses(done(root, given("linear", seed=44)))[0] != start


def test_loss_sequence(root: Path) -> None:
    """If these numbers move, so do all results: raise `plan.VERSION` and say why."""
    sequence = losses(done(root, given("zero-init")))
    stored_sequence = json.loads(Path(__file__).with_name("loss_sequence.json").read_text())
    assert sequence == pytest.approx(stored_sequence, rel=1e-5)


def test_the_follow_up_is_zero_init_in_all_blocks(root: Path) -> None:
    follow_up = "zero-init-6-layers"
    every, other = (done(root, given(m, num_layers=BLOCKS)) for m in ("zero-init", follow_up))
    assert every.result["tuned_parameters"] == BLOCKS * (3 * C + 2) + HEAD
    assert losses(other) == losses(every)
    settings = [s.settings for s in plan.plan("mini", "cpu") if s.method == follow_up]
    assert {each.num_layers for each in settings} == {PocketViT.depth} == {6}


WITH_TRUNK = [m for m in methods.METHODS if m not in (*methods.WITHOUT_TRUNK, "partial")]


@pytest.mark.parametrize("method", WITH_TRUNK)
def test_reusing_the_trunk_changes_no_bit(root: Path, method: str) -> None:
    reused, computed = (done(root, given(method, reuse_trunk=on)) for on in (True, False))
    assert losses(reused) == losses(computed)
    assert reused.result["adapter_sha256"] == computed.result["adapter_sha256"]
    assert reused.predictions() == computed.predictions()


@pytest.mark.parametrize("method", methods.PARTLY)
def test_a_method_on_the_topmost_blocks_leaves_the_others_as_they_are(
    root: Path, method: str
) -> None:
    """The blocks below are computed once, for these methods too, and no bit depends on it."""
    reused, computed = (
        done(root, given(method, adapted_blocks=2, reuse_trunk=on)) for on in (True, False)
    )
    assert reused.result["tuned_parameters"] == PARTLY[method]
    assert losses(reused) == losses(computed)
    assert reused.predictions() == computed.predictions()
    assert set(methods.PARTLY) == set(PARTLY)
    names = load_file(reused.path / stored.ADAPTER)
    assert not [name for name in names if "blocks.0." in name or "patch_embed" in name]
    assert [name for name in names if "blocks.1." in name]


def test_what_blocks_cannot_be_adapted(root: Path) -> None:
    for changes, said in (
        ({"method": "partial"}, "partial fine-tunes the topmost blocks: set adapted_blocks"),
        ({"method": "lora", "adapted_blocks": 4}, "adapted_blocks=4, but the backbone has 3"),
    ):
        outcome = run_one(given(**changes), root / "runs")
        assert outcome.state == "failed"
        assert outcome.reason.startswith(said)


def test_passes_have_the_size_of_a_training_pass(root: Path) -> None:
    reused, computed = (
        done(root, given("zero-init", reuse_trunk=on, batch_size=8, micro_batch_size=3))
        for on in (True, False)
    )
    assert losses(reused) == losses(computed)


def test_a_final_run_takes_the_best_candidate_on_val(root: Path) -> None:
    final = spec("linear", candidates=((1e-6, 0.01), (0.03, 0.01), (0.03, 0.1), (1e-5, 0.1)))
    selects = select_runs(final)
    assert [(s.seed, s.settings.phase, s.settings.peak_lr) for s in selects] == [
        (0, "select", rate) for rate in (1e-6, 0.03, 0.03, 1e-5)
    ]
    outcome = run_one(final, root / "runs")
    assert outcome.state == "failed"
    assert "is needed, is not done: do it first" in outcome.reason
    assert run_all([final], root / "runs", retry_failed=True) == 0  # does what it requires
    runs = [done(root, select) for select in selects]
    accuracies = [each.result["accuracy"] for each in runs]
    assert {each.result["evaluated_on"] for each in runs} == {"val"}
    assert len(set(accuracies)) > 1
    # The two at 0.03 guess alike, as a decay of 0.1 does little: the first of equals counts.
    assert accuracies[1] == accuracies[2] == max(accuracies)
    result = done(root, final).result
    assert (result["peak_lr"], result["weight_decay"]) == (0.03, 0.01)
    assert (result["evaluated_on"], result["candidates"]) == ("test", 4)
    assert done(root, given("linear", peak_lr=0.03)).result["accuracy"] == result["accuracy"]


def test_candidates_may_be_tried_on_one_task_for_all(root: Path, other_task: Path) -> None:
    final = spec("linear", candidates=((1e-6, 0.01), (0.03, 0.01)), selection_task="tiny")
    elsewhere = replace(final, task="other")
    assert [s.identity for s in select_runs(elsewhere)] == [s.identity for s in select_runs(final)]
    # And they are those of a run that chooses on its own task.
    own = spec("linear", candidates=((1e-6, 0.01), (0.03, 0.01)))
    assert [s.identity for s in select_runs(own)] == [s.identity for s in select_runs(final)]
    assert run_all([elsewhere, final], root / "one", retry_failed=True) == 0
    ran = [stored.load(path) for path in (root / "one" / "vtab_vit").iterdir()]
    assert len(ran) == 4
    finished = next(run for run in ran if run.config["task"] == "other")
    assert finished.result["peak_lr"] == 0.03
    assert finished.result["candidates"] == 2
    assert set(finished.environment["data"]) == {"tiny", "other"}
    assert {f.outcome for f in verify.verify_run(finished.path)} == {"ok"}
    # What the candidates were tried on has changed: the choice is not one for these data.
    lists = root / "data" / "vtab" / "tiny" / "val200.txt"
    before = lists.read_text()
    lists.write_text("".join(f"{line}\n" for line in reversed(before.splitlines())))
    outcome = run_one(replace(elsewhere, seed=44), root / "one")
    lists.write_text(before)
    assert "was made with other data: restore those" in outcome.reason


def test_of_several_tasks_the_mean_decides(
    root: Path, other_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tasks.GROUPS, "@both", (tasks.get("tiny"), tasks.get("other")))
    final = spec("linear", candidates=((0.1, 0.01), (0.2, 0.01)), selection_task="@both")
    found = {"tiny": {0.1: 0.9, 0.2: 0.7}, "other": {0.1: 0.3, 0.2: 0.6}}

    class Folder:
        def result_of(self, select: Any, fields: Any) -> dict[str, float] | None:
            accuracy = found[select.task][select.settings.peak_lr]
            return None if accuracy is None else {"accuracy": accuracy}

    assert [s.task for s in select_runs(final)] == ["tiny", "other"] * 2
    assert chosen(final, Folder(), {})[0] == 0.2  # type: ignore[arg-type]
    found["other"][0.2] = None  # type: ignore[assignment]
    assert chosen(final, Folder(), {})[0] == 0.1  # type: ignore[arg-type]
    assert run_all([final], root / "group", retry_failed=True) == 0
    finished = stored.load(root / "group" / "vtab_vit" / final.folder_name)
    assert set(finished.environment["data"]) == {"tiny", "other"}
    assert finished.result["candidates"] == 2


def test_runs_of_a_process_share_the_features_of_the_trunk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the runs are that were before changes no bit of a run, and nothing is done twice."""
    monkeypatch.setattr(loaded_task, "_newest", {})
    computed = []
    features = trunk.Trunk.features

    def counted(self: trunk.Trunk, *arguments: Any) -> Any:
        computed.append(self.depth)
        return features(self, *arguments)

    monkeypatch.setattr(trunk.Trunk, "features", counted)
    first = done(root, given("zero-init", seed=7, num_layers=1))
    assert computed == [2, 2]  # of the training and of the test images
    shared = done(root, given("random-init", seed=7, num_layers=1))
    assert computed == [2, 2]
    done(root, given("zero-init", seed=7, num_layers=3))
    assert computed == [2, 2, 0, 0]
    monkeypatch.setattr(loaded_task, "_newest", {})
    alone = RunFolder.claim(root / "alone", given("random-init", seed=7, num_layers=1), {})
    assert alone is not None
    with alone:
        run(given("random-init", seed=7, num_layers=1), alone)
    again = stored.load(alone.path)
    assert losses(again) == losses(shared) != losses(first)
    assert again.result["adapter_sha256"] == shared.result["adapter_sha256"]
    assert again.predictions() == shared.predictions()


def test_features_of_a_large_test_set_are_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = done(root, given("zero-init", seed=8))
    monkeypatch.setattr(loaded_task, "KEPT_FEATURE_BYTES", 10)
    monkeypatch.setattr(inputs, "KEPT_FEATURE_BYTES", 10)
    monkeypatch.setattr(loaded_task, "_newest", {})
    path = root / "streamed"
    assert run_one(given("zero-init", seed=8), path).state == "done"
    streamed = stored.load(path / kept.path.parent.name / kept.path.name)
    [task] = loaded_task._newest.values()
    assert not task._features
    assert streamed.predictions() == kept.predictions()
    assert streamed.result["adapter_sha256"] == kept.result["adapter_sha256"]


def test_the_trunk_may_be_computed_in_more_digits_than_the_rest(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Any]] = []
    features = trunk.Trunk.features

    def kept(self: trunk.Trunk, *arguments: Any) -> Any:
        found = features(self, *arguments)
        seen[-1].append(found)
        return found

    monkeypatch.setattr(trunk.Trunk, "features", kept)
    half = {"precision": "bf16-autocast"}
    for changes in ({"precision": "fp32"}, half, half | {"trunk_precision": "fp32"}):
        seen.append([])
        monkeypatch.setattr(loaded_task, "_newest", {})
        done(root, given("zero-init", seed=9, **changes))
    for exact, rough, mixed in zip(*seen, strict=True):
        assert mixed.equal(exact)
        assert not rough.float().equal(exact)
    for changes, said in (
        ({"precision": "bf16"}, "trunk_precision=fp32 needs float32 weights"),
        ({"reuse_trunk": False}, "trunk_precision=fp32 is for blocks that are computed once"),
    ):
        outcome = run_one(given("zero-init", trunk_precision="fp32", **changes), root / "runs")
        assert said in (outcome.reason or "")


def test_a_candidate_that_diverges_loses_and_blocks_nothing(root: Path) -> None:
    final = spec("linear", candidates=((1e38, 0.01), (0.03, 0.01)))
    assert run_all([final], root / "runs") == 1  # of the three runs one has failed
    diverged, other = select_runs(final)
    status = stored.load(root / "runs" / final.experiment / diverged.folder_name).status
    assert status["reason"].startswith("diverged: the ")
    assert done(root, other).state == "done"
    assert done(root, final).result["peak_lr"] == 0.03

    hopeless = spec("linear", candidates=((1e38, 0.01),))
    assert run_all([hopeless], root / "runs") == 1
    outcome = run_one(hopeless, root / "runs")
    assert "every candidate of linear on " in outcome.reason


def test_selection_does_not_see_the_test_images(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(example: Example) -> Any:
        seen.append(Path(example.name).stem)
        return read_image(example)

    monkeypatch.setattr(loaded_task, "read_image", watched)
    monkeypatch.setattr(loaded_task, "_newest", {})
    final = spec("vpt-deep")
    for select in select_runs(final):
        done(root, select)
    assert {int(number) for number in seen} == set(range(24))
    done(root, final)
    assert [int(number) for number in seen if int(number) >= 24] == list(range(24, 33))


def test_select_runs_do_not_depend_on_the_other_candidates_or_the_seed() -> None:
    one, other = spec("lora"), spec("lora", seed=44, candidates=((0.02, 0.01), (0.5, 0.0)))
    assert select_runs(one)[0].identity == select_runs(other)[0].identity
    assert select_runs(one)[1].identity != select_runs(other)[1].identity
    assert select_runs(select_runs(one)[0]) == []


@pytest.mark.parametrize(
    "changes",
    [{"peak_lr": 0.1}, {"weight_decay": 0.1}, {"candidates": ()}, {"phase": "select"}],
)
def test_a_run_that_has_no_rate_says_what_to_set(root: Path, changes: dict[str, Any]) -> None:
    outcome = run_one(spec("linear", **changes), root / "runs")
    assert outcome.state == "failed"
    assert "set both peak_lr and weight_decay, or neither" in outcome.reason


@pytest.mark.parametrize("method", ["zero-init", "vpt-deep", "full"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(root: Path, method: str) -> None:
    run_spec = given(method, seed=82)
    whole = done(root, run_spec).path
    parts = root / "parts"
    for stop_at in (2, 5, None):
        folder = RunFolder.claim(parts, run_spec, RESULT_FIELDS)
        assert folder is not None
        _attempt(run_spec, folder, stop_at)
    for name in ("metrics.jsonl", "predictions.jsonl.gz", "adapter.safetensors"):
        ours = parts / run_spec.experiment / run_spec.folder_name / name
        assert ours.read_bytes() == (whole / name).read_bytes(), name


def _attempt(run_spec: RunSpec, folder: RunFolder, stop_at: int | None) -> None:
    def watch(fields: dict[str, Any]) -> None:
        if fields["step"] == stop_at:
            folder.request_stop("asked to")

    folder.on_progress = watch
    with folder:
        if stop_at is None:
            run(run_spec, folder)
        else:
            with pytest.raises(Interrupted):
                run(run_spec, folder)


def test_a_stop_before_scoring_is_obeyed(root: Path) -> None:
    run_spec = given("linear", seed=100)
    folder = RunFolder.claim(root / "stopped", run_spec, RESULT_FIELDS)
    assert folder is not None
    _attempt(run_spec, folder, 9)  # the last step
    assert not (folder.path / stored.RESULT).exists()
    folder = RunFolder.claim(root / "stopped", run_spec, RESULT_FIELDS)
    assert folder is not None
    _attempt(run_spec, folder, None)
    assert (folder.path / stored.RESULT).exists()


def test_other_files_need_data_and_other_predictions_fail(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = done(root, given("linear"))
    copy = tmp_path / finished.path.parent.name / finished.path.name
    shutil.copytree(finished.path, copy)

    def outcome() -> tuple[str, str]:
        found = next(f for f in verify.verify_run(copy) if f.check == "metrics")
        return found.outcome, found.detail

    assert outcome() == ("ok", "accuracy, correct")
    result = finished.result | {"accuracy": finished.result["accuracy"] + 1 / 9}
    (copy / stored.RESULT).write_text(json.dumps(result))
    assert outcome()[0] == "failed"
    data = tmp_path / "data" / "vtab" / "tiny"
    shutil.copytree(root / "data" / "vtab" / "tiny", data)
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "data"))
    lists = data / "test.txt"
    lists.write_text(lists.read_text().replace("24.png 0", "24.png 1"))
    assert outcome()[0] == "needs data"
    assert "not hold the files that the run was made with" in outcome()[1]
    lists.unlink()
    assert outcome()[0] == "needs data"


def test_a_resolution_that_is_not_the_backbones(root: Path) -> None:
    outcome = run_one(given("linear", resolution=48), root / "runs")
    assert outcome.reason.startswith("resolution=48, but small-vit takes images of 32 pixels")


def test_missing_weights(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    outcome = run_one(given("linear", seed=3), root / "runs")
    assert outcome.state == "failed"
    assert "no weights of small-vit: " in outcome.reason
    paper = replace(given("linear", resolution=224), backbone="vit_base_patch16_224.orig_in21k")
    outcome = run_one(paper, root / "runs")
    assert "the hub's timm/vit_base_patch16_224.orig_in21k cannot be reached" in outcome.reason
