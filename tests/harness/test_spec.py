import json
import re
from dataclasses import dataclass, make_dataclass, replace
from typing import Literal

import pytest

from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class Settings:
    steps: int = 40
    peak_lr: float = 0.01
    clip_norm: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    shuffle: bool = True
    betas: tuple[float, float] = (0.9, 0.95)
    layers: tuple[int, ...] = ()
    note: str | None = None


def spec(**changes) -> RunSpec:
    base = {
        "experiment": "alpaca_llama",
        "version": 1,
        "task": "instructions",
        "method": "zero-init",
        "backbone": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "data": "alpaca-reduced-640",
        "profile": "small",
        "seed": 0,
        "settings": Settings(),
    }
    return RunSpec(**{**base, **changes})


# A change of these orphans every stored run: raise the experiment's version instead.
PINNED = [
    ({}, "590c4da072cbaa13"),
    ({"seed": 1}, "f5defe99e91f28ec"),
    ({"settings": Settings(steps=41, clip_norm=1.0, layers=(1, 2))}, "7776b2792257deef"),
    (
        {"version": 2, "method": "lora", "settings": Settings(betas=(0.9, 0.999))},
        "02044ef0479f313d",
    ),
]


@pytest.mark.parametrize(("changes", "identity"), PINNED)
def test_identities_stay_what_they_were(changes, identity):
    assert spec(**changes).identity == identity


def test_every_field_is_in_the_identity():
    changed = [
        spec(**{field: value})
        for field, value in {
            "experiment": "other",
            "version": 2,
            "task": "other",
            "method": "other",
            "backbone": "other",
            "data": "other",
            "profile": "mini",
            "seed": 1,
            "settings": Settings(shuffle=False),
        }.items()
    ]
    assert len({s.identity for s in [spec(), *changed]}) == len(changed) + 1


def test_a_setting_added_later_leaves_identities_and_stored_runs_as_they_are():
    extended = make_dataclass(
        "Extended", [("new", float, 0.5)], bases=(Settings,), frozen=True, namespace={}
    )
    before = spec(settings=Settings(steps=7))
    assert spec(settings=extended(steps=7)).identity == before.identity
    assert spec(settings=extended(steps=7, new=0.6)).identity != before.identity
    stored = json.loads(json.dumps(before.to_json()))
    assert RunSpec.from_json(stored, extended).identity == before.identity


def test_whole_numbers_in_float_fields_and_lists_are_one_run():
    one = spec(settings=Settings(clip_norm=1, betas=[1, 0.5], peak_lr=0.0))
    other = spec(settings=Settings(clip_norm=1.0, betas=(1.0, 0.5), peak_lr=-0.0))
    assert one == other
    assert one.identity == other.identity


def test_a_complete_run_survives_json():
    whole = spec(settings=Settings(layers=(1, 2), note="é", clip_norm=0.1))
    stored = json.loads(json.dumps(whole.to_json()))
    assert set(stored["settings"]) == set(Settings.__dataclass_fields__)
    assert RunSpec.from_json(stored, Settings) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeed": 1}, "'seeed' is not a field of a run; choose from: experiment, version"),
        ({"seed": None}, "the run's config: seed must be a whole number, not None"),
        ({"seed": True}, "seed must be a whole number, not True"),
        ({"version": "1"}, "version must be a whole number, not '1'"),
        ({"settings": [1]}, "settings must be an object"),
        ({"settings": {"lr": 1}}, "'lr' is not a setting; choose from: steps, peak_lr"),
        ({"settings": {"steps": 1.5}}, "setting steps must be a whole number, not 1.5"),
        ({"settings": {"precision": "fp8"}}, "setting precision must be one of fp32, bf16"),
        ({"settings": {"betas": [0.9]}}, "setting betas must be a list of 2"),
        ({"settings": {"layers": [1, "2"]}}, r"setting layers\[1\] must be a whole number"),
        ({"settings": {"clip_norm": "1"}}, "clip_norm must be a finite number or none, not '1'"),
    ],
)
def test_a_wrong_config_is_refused_in_a_sentence_that_names_the_field(change, message):
    with pytest.raises(ZiaError, match=message):
        RunSpec.from_json({**spec().to_json(), **change}, Settings)


def test_a_missing_field_is_named():
    stored = spec().to_json()
    del stored["seed"], stored["task"]
    with pytest.raises(ZiaError, match="lacks task, seed"):
        RunSpec.from_json(stored, Settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.1"])
def test_a_setting_that_is_not_finite_is_refused(value):
    with pytest.raises(ZiaError, match="setting peak_lr must be a finite number"):
        spec(settings=Settings(peak_lr=value))


HOSTILE = ["", ".", "..", "../../etc", "/etc", "a/b", "a\\b", ".hidden", "-x", "a\nb", "a\0", "é"]


@pytest.mark.parametrize("field", ["experiment", "task", "method", "profile"])
@pytest.mark.parametrize("name", [*HOSTILE, "a" * 41])
def test_hostile_names_are_refused(field, name):
    with pytest.raises(ZiaError, match=f"{field} .* is not a name"):
        spec(**{field: name})


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 3000, "a/../..", "%00", "CON", "\u4e2d.." * 40])
def test_a_hostile_backbone_gives_a_harmless_folder_name(name):
    longest = {"task": "t" * 40, "method": "m" * 40, "profile": "p" * 40, "seed": 2**32 - 1}
    for hostile in (spec(backbone=name), spec(backbone=name, **longest)):
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,79}", hostile.slug)
        assert hostile.slug.endswith(f"-s{hostile.seed}")
        assert hostile.folder_name == f"{hostile.slug}-{hostile.identity}"


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_one_that_all_generators_accept(seed):
    with pytest.raises(ZiaError, match="seed"):
        spec(seed=seed)


def test_the_slug_is_readable():
    assert spec(backbone="a/../..").slug == "zero-init-instructions-small-s0"
    assert spec().slug == "zero-init-instructions-smollm2-135m-instruct-small-s0"


def test_set_parses_by_the_type_of_the_setting():
    changed = spec().with_settings(
        {
            "steps": "7",
            "peak_lr": "1e-3",
            "clip_norm": "1",
            "precision": "bf16",
            "shuffle": "False",
            "betas": "0.8, 0.9",
            "layers": "3",
            "note": "a=b",
        }
    )
    assert changed.settings == Settings(7, 0.001, 1.0, "bf16", False, (0.8, 0.9), (3,), "a=b")
    back = changed.with_settings({"clip_norm": "none", "layers": "", "note": "None"})
    assert back.settings == replace(changed.settings, clip_norm=None, layers=(), note=None)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("lr", "1", "'lr' is not a setting; choose from: .*clip_norm.*steps"),
        ("steps", "1.5", "setting steps must be a whole number, not '1.5'"),
        ("peak_lr", "nan", "setting peak_lr must be a finite number"),
        ("peak_lr", "fast", "setting peak_lr must be a finite number, not 'fast'"),
        ("shuffle", "1", "setting shuffle must be true or false"),
        ("precision", "fp8", "must be one of fp32, bf16"),
        ("betas", "0.9", "must be a list of 2"),
        ("layers", "1,x", "setting layers .items separated by commas. must be a whole number, not"),
    ],
)
def test_a_wrong_set_is_refused(key, text, message):
    with pytest.raises(ZiaError, match=message):
        spec().with_settings({key: text})
