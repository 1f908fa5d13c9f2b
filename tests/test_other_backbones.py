"""Every experiment with models of one's own: planned, run for a step, verified, and tabulated."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from experiments.backbones import own
from experiments.dispatch import in_process, submission
from experiments.dispatch.code_snapshot import Code
from experiments.dispatch.submission import Request
from experiments.harness import plan, registry, verify
from experiments.harness.experiment import Models
from experiments.harness.registry import InvalidChoiceError
from experiments.harness.spec import RunSpec
from experiments.language.depth import evenly_spaced, rescaled, scaled
from experiments.report.tables import write as tables
from tests.backbones.tiny_models import write_causal, write_reader, write_vit
from zia_core.errors import ZiaError

LANGUAGE = ("alpaca_llama", "coco_caption", "scienceqa")
STEP = {"peak_lr": "0.1", "warmup_epochs": "0"}
# Settings that make one step of a run of `mini`.
STEPS: dict[str, dict[str, str]] = {
    "alpaca_llama": {"epochs": "0.016", "answered": "1", "new_tokens": "1", "max_length": "600"},
    "coco_caption": {"epochs": "0.004", "new_tokens": "3"},
    "scienceqa": {"epochs": "0.01", "new_tokens": "1"},
    "squad_roberta": {"epochs": "0.008", "max_length": "93"},
    "vtab_vit": {"epochs": "0.008", "weight_decay": "0.01"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model of each kind; the hub is away, and there are no other weights."""
    root = tmp_path_factory.mktemp("models")
    write_causal(root / "llama", layers=6)
    for kind in ("qwen3", "gemma3", "smollm2"):
        write_causal(root / kind, kind)
    no_padding = {"bos_token": "<s>", "eos_token": "</s>"}  # as the tokenizers of LLaMA and LLaMA-3
    write_causal(root / "llama3", "llama3", special=no_padding)
    for kind in ("bert", "roberta", "modernbert"):
        write_reader(root / kind, kind)
    for kind in ("dinov2", "timm"):
        write_vit(root / kind, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(own, "_folders", {})
        yield root


def chosen(models: Path, backbone: str | None, encoder: str | None = None) -> Models:
    return Models(
        None if backbone is None else str(models / backbone),
        None if encoder is None else str(models / encoder),
    )


CHOICES = [
    ("alpaca_llama", "qwen3", None),
    ("coco_caption", "gemma3", "timm"),
    ("scienceqa", "llama", "dinov2"),
    ("squad_roberta", "roberta", None),
    ("vtab_vit", "dinov2", None),
]


@pytest.mark.parametrize("profile", ["mini", "small", "paper"])
@pytest.mark.parametrize(("experiment", "backbone", "encoder"), CHOICES)
def test_a_plan_changes_models_and_what_depends_on_them(
    models: Path, experiment: str, backbone: str, encoder: str | None, profile: str
) -> None:
    backbones = chosen(models, backbone, encoder)
    before = plan.planned(experiment, profile, "cpu")
    after = plan.planned(experiment, profile, "cpu", backbones)
    assert len(after) == len(before)
    assert all(spec.backbone.startswith(f"{backbone}@sha256-") for spec in after)
    assert str(models) not in "".join(spec.folder_name + repr(spec) for spec in after)
    depends = {"num_layers", "backbone_layers", "encoder", "depths", "resolution", "protocol"}
    depends |= {"max_length", "adapted_blocks"}
    for old, new in zip(before, after, strict=True):
        assert replace(new, backbone=old.backbone, settings=old.settings) == old
        changed = {
            name for name, value in vars(new.settings).items() if value != vars(old.settings)[name]
        }
        assert changed <= depends
    # The runs that choose rates are those of the same models.
    assert {s.identity for s in plan.with_requirements(after)} >= {s.identity for s in after}
    assert len(plan.with_requirements(after)) == len(plan.with_requirements(before))
    unknown = {
        run.estimate.hours for run in plan.inspect_all(after[:20], models / "none", backbones)
    }
    assert unknown == {None}


def one_step(experiment: str, backbones: Models, method: str = "zero-init") -> RunSpec:
    settings = STEP | STEPS[experiment]
    return plan.choose(
        experiment, "mini", "cpu", method=method, settings=settings, models=backbones
    )


def test_runs_are_verified_and_have_a_section_each(models: Path, tmp_path: Path) -> None:
    specs = [one_step(name, chosen(models, *rest)) for name, *rest in CHOICES]
    specs += [one_step("squad_roberta", chosen(models, kind)) for kind in ("bert", "modernbert")]
    specs += [one_step("vtab_vit", chosen(models, "timm"), name) for name in ("zero-init", "lora")]
    specs.append(one_step("alpaca_llama", chosen(models, "smollm2")))
    specs += [
        one_step("alpaca_llama", replace(chosen(models, "llama3"), template=template))
        for template in ("paper", "chat")
    ]
    assert in_process.run_all(specs, tmp_path / "runs", retry_failed=False) == in_process.EXIT_DONE
    findings = verify.verify(tmp_path / "runs", sealing=False)
    assert {finding.outcome for finding in findings} == {"ok"}
    tables.write_tables([tmp_path / "runs"], tmp_path / "tables", keep_going=False)
    sections = [
        line
        for table in (tmp_path / "tables").glob("*.md")
        for line in table.read_text().splitlines()
        if line.startswith("## ")
    ]
    for spec in specs:
        assert any(f"mini: {spec.backbone}, data " in line for line in sections)


def test_a_template_is_a_setting_and_the_paper_s_is_no_change(models: Path) -> None:
    before = plan.planned("alpaca_llama", "small", "cpu")
    paper = plan.planned("alpaca_llama", "small", "cpu", Models(template="paper"))
    assert [spec.identity for spec in paper] == [spec.identity for spec in before]
    chat = plan.planned("alpaca_llama", "small", "cpu", Models(template="chat"))
    assert {spec.settings.template for spec in chat} == {"chat"}
    assert not {spec.identity for spec in chat} & {spec.identity for spec in before}
    own_model = replace(chosen(models, "llama"), template="chat")
    required = plan.with_requirements(plan.planned("alpaca_llama", "mini", "cpu", own_model))
    assert {spec.settings.template for spec in required} == {"chat"}
    with pytest.raises(InvalidChoiceError, match="no template 'alpaca'; choose from: paper, chat"):
        plan.planned("alpaca_llama", "small", "cpu", Models(template="alpaca"))


def test_a_model_without_a_chat_template_is_refused_when_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_causal(tmp_path / "llama-7b")
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    assert plan.planned("alpaca_llama", "paper", "cpu", Models(template="chat"))
    (folder / "chat_template.jinja").unlink()
    no_template = r"llama-7b\S* has no chat template: take the model's instruct version"
    for backbone in (str(folder), None):
        with pytest.raises(ZiaError, match=no_template):
            plan.planned("alpaca_llama", "paper", "cpu", Models(backbone, template="chat"))


def test_layers_are_the_papers_share() -> None:
    # 30 of 32 layers in models of 32, 80, 28 and 6 layers.
    assert [scaled(30, depth) for depth in (32, 80, 28, 6, 1)] == [30, 75, 26, 5, 1]
    assert rescaled(5, 6, 32) == 30  # what `mini` rounds is not rounded again
    assert [rescaled(layers, 6, 32) for layers in (2, 4, 5, 6)] == [10, 20, 30, 32]
    assert [rescaled(layers, 32, 6) for layers in (10, 20, 30, 32)] == [2, 4, 5, 6]
    assert evenly_spaced(24) == (4, 8, 12, 16, 20, 24)
    assert evenly_spaced(6) == (1, 2, 3, 4, 5, 6)
    assert evenly_spaced(4) == (1, 2, 3, 4)


def test_two_numbers_of_layers_may_be_one_run(tmp_path: Path) -> None:
    """In two layers, 10, 20 and 30 of 32 are all one: each such run is done once."""
    backbones = Models(str(write_causal(tmp_path / "shallow", layers=2)))
    specs = plan.planned("scienceqa", "paper", "cpu", backbones)
    assert len({spec.identity for spec in specs}) == len(specs)
    assert {spec.settings.num_layers for spec in specs} == {1, 2}


def test_a_vit_keeps_the_profile_s_share_of_layers_and_its_own_colours(models: Path) -> None:
    """`small` adapts two of CLIP's 12 layers: one of six, and of three."""
    for backbone, layers, protocol, side in (
        ("small-vit", 1, "vpt", 32),
        (str(models / "dinov2"), 1, "half", 32),
        ("vit_base_patch16_clip_quickgelu_224.int8", 2, "clip", 96),
    ):
        spec, *_ = plan.planned("vtab_vit", "small", "cpu", Models(backbone))
        settings = spec.settings
        assert (settings.num_layers, settings.adapted_blocks) == (layers, layers)
        assert (settings.protocol, settings.resolution) == (protocol, side)


def test_costs_of_the_paper_s_profile_are_predicted_for_other_models(models: Path) -> None:
    for experiment, *names in [*CHOICES, ("squad_roberta", "modernbert", None)]:
        backbones = chosen(models, *names)
        spec = plan.planned(experiment, "paper", "cuda", backbones)[0]
        [run] = plan.inspect_all([spec], models / "none", backbones)
        assert 0 < (run.estimate.hours or 0) < 1
        assert 0 < (run.estimate.memory_gb or 0) < 5
    qwen = chosen(models, "qwen3")
    refused = [spec for spec in plan.planned("alpaca_llama", "paper", "cuda", qwen)
               if spec.method == "adaption-prompt"]  # fmt: skip
    [run, *_] = plan.inspect_all(refused, models / "none", qwen)
    assert run.estimate.source.startswith("not predicted: PEFT's AdaptionPrompt does not take this")


def test_layers_may_be_set(models: Path) -> None:
    backbones = chosen(models, "llama")
    spec = plan.choose("alpaca_llama", "mini", "cpu", settings={}, models=backbones)
    assert (spec.settings.num_layers, spec.settings.backbone_layers) == (5, 6)
    settings = {"num_layers": "1"}
    spec = plan.choose("alpaca_llama", "mini", "cpu", settings=settings, models=backbones)
    assert spec.settings.num_layers == 1


def test_a_model_of_the_projects_list_needs_no_weights_to_be_planned() -> None:
    specs = plan.planned("scienceqa", "mini", "cpu", Models("llama-7b", "clip-vit-l-14"))
    assert {spec.backbone for spec in specs} == {"llama-7b"}
    assert {spec.settings.num_layers for spec in specs} == {10, 20, 30, 32}
    assert {spec.settings.depths for spec in specs} == {(4, 8, 12, 16, 20, 24)}
    assert {spec.settings.backbone_layers for spec in specs} == {None}
    needed = {spec.settings.num_layers for spec in specs if spec.settings.phase == "select"}
    assert needed == {30}
    same = plan.planned("scienceqa", "mini", "cpu", Models("pocket-llama", "pocket-vit"))
    assert same == plan.planned("scienceqa", "mini", "cpu")
    ours = plan.planned("squad_roberta", "mini", "cpu", Models("roberta-base"))
    assert {spec.backbone for spec in ours} == {"roberta-base"}


@pytest.mark.parametrize("experiment", registry.experiments())
def test_where_a_choice_has_no_meaning(experiment: str) -> None:
    profile = registry.get(experiment).profiles[0]
    own_models = experiment.startswith("pretrain_")
    sees_images = experiment in ("coco_caption", "scienceqa")
    if own_models:
        with pytest.raises(InvalidChoiceError, match="takes no --backbone, --encoder or --temp"):
            plan.planned(experiment, profile, "cpu", Models("llama-7b"))
    elif not sees_images:
        with pytest.raises(InvalidChoiceError, match=r"takes no --encoder|name it with --backbone"):
            plan.planned(experiment, profile, "cpu", Models(encoder="small-vit"))
    if not own_models and experiment != "alpaca_llama":
        with pytest.raises(InvalidChoiceError, match="so it takes no --template"):
            plan.planned(experiment, profile, "cpu", Models(template="chat"))
    with pytest.raises(InvalidChoiceError, match="are for one experiment: name it"):
        plan.planned(None, profile, "cpu", Models("llama-7b"))


def test_a_submission_hands_the_models_on(models: Path, tmp_path: Path) -> None:
    asked = replace(chosen(models, "qwen3"), template="chat")
    places = tmp_path / "runs", tmp_path / "out"
    request = Request("alpaca_llama", "mini", "cpu", *places, models=asked)
    described = submission.describe(request, "local", Code(tmp_path, {}, None), [])
    described.folder.mkdir(parents=True)
    described.write()
    again = submission.load(described.folder)
    assert again.request == request
    first = again.request.specs()[0]
    assert first.backbone.startswith("qwen3@sha256-")
    assert first.settings.template == "chat"
