"""The visual projection as part of a model: files, detaching, data-parallel ranks, refusals."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.zia_core.backbones import BUILD, adapted, build, inputs, output
from tests.zia_core.processes import exit_codes
from tests.zia_core.visual_ranks import gradients_of_a_rank
from tests.zia_core.visual_reference import CONFIGS, GLOBAL, batch_of, features, of, seeing
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    ZiaError,
    attach,
    attach_visual,
    condition,
    detach,
    images,
    load_adapter,
    save_adapter,
    visual_projection,
)
from zia_core.identity import backbone_identity
from zia_core.trained_weights import load_trained, pack_trained

PROJECTIONS = list(CONFIGS)


def seen(model: torch.nn.Module, projection: str) -> torch.Tensor:
    with images(model, features(projection, 3), torch.tensor([True, False, True])):
        return output(model, batch_of("llama-gqa"))


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_round_trip_onto_a_bare_backbone(projection: str, tmp_path: Path) -> None:
    model = seeing("llama-gqa", projection)
    path = save_adapter(model, tmp_path)
    loaded = load_adapter(build("llama-gqa"), tmp_path)
    assert torch.equal(seen(loaded, projection), seen(model, projection))
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert load_file(path).keys() == names
    assert len(names) == 4 + len(list(of(model).parameters()))
    assert backbone_identity(model) == backbone_identity(build("llama-gqa"))
    again = seeing("llama-gqa", projection)
    with torch.no_grad():
        for parameter in of(again).parameters():
            parameter.zero_()
    assert torch.equal(seen(load_adapter(again, tmp_path), projection), seen(model, projection))


def test_what_was_trained_comes_back(tmp_path: Path) -> None:
    model, identity = seeing("llama-gqa", "queries"), backbone_identity(build("llama-gqa"))
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(pack_trained(model, "zero-init", identity))
    other = attach_visual(
        attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=2)),
        CONFIGS["queries"],
    )
    load_trained(other, path, identity)
    assert torch.equal(seen(other, "queries"), seen(model, "queries"))


def test_another_projection_is_refused_with_both_sides(tmp_path: Path) -> None:
    save_adapter(seeing("llama-gqa", "global"), tmp_path)
    with pytest.raises(ZiaError, match=r"projection='global'.*where the model has .*'queries'"):
        load_adapter(seeing("llama-gqa", "queries"), tmp_path)
    save_adapter(adapted("llama-gqa"), tmp_path)
    with pytest.raises(ZiaError, match=r"has no visual projection where the model has the visual"):
        load_adapter(seeing("llama-gqa", "queries"), tmp_path)


def test_detach_removes_it() -> None:
    model, bare = seeing("llama-gqa", "queries"), build("llama-gqa")
    detach(model)
    assert model.state_dict().keys() == bare.state_dict().keys()
    assert visual_projection(model) is None
    assert torch.equal(output(model, inputs("llama-gqa")), output(bare, inputs("llama-gqa")))
    attach_visual(attach(model, ZeroInitConfig(prompt_length=2, num_layers=1)), GLOBAL)


def test_a_deep_copy_is_on_its_own() -> None:
    model = seeing("llama-gqa", "global")
    before = seen(model, "global")
    other = copy.deepcopy(model)
    with torch.no_grad():
        of(other).up.weight.mul_(2)  # type: ignore[union-attr]
    assert torch.equal(seen(model, "global"), before)
    assert not torch.allclose(seen(other, "global"), before)


def test_data_parallel_ranks_of_which_one_has_no_image(tmp_path: Path) -> None:
    """With two processes: if a gradient were missing, the other rank would wait forever."""
    assert exit_codes(gradients_of_a_rank, [(tmp_path, rank) for rank in range(2)]) == [0, 0]
    for projection in PROJECTIONS:
        ours, theirs = (load_file(tmp_path / f"{projection}-{rank}") for rank in range(2))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        alone = seeing("llama-gqa", projection)
        with images(alone, features(projection, 2)):
            (output(alone, inputs("llama-gqa")).square().mean() / 2).backward()
        for name, parameter in of(alone).named_parameters():
            torch.testing.assert_close(ours[f"visual_projection.{name}"], parameter.grad)
            assert parameter.grad is not None
            assert parameter.grad.any() or name == "blocks.0.qkv.bias"


def test_refusals() -> None:
    model = seeing("llama-gqa", "global")
    with pytest.raises(ZiaError, match=r"already has a visual projection"):
        attach_visual(model, GLOBAL)
    with pytest.raises(ZiaError, match=r"no zero-init attention; call attach\(\) first"):
        attach_visual(build("llama-gqa"), GLOBAL)
    with pytest.raises(ZiaError, match="prompt_source='hidden'"):
        attach_visual(adapted("llama-gqa", prompt_source="key_value"), GLOBAL)
    shown = features("global", 3)
    with (
        pytest.raises(ZiaError, match=r"call attach_visual\(\) first"),
        images(adapted("llama-gqa"), shown),
    ):
        pass
    with (
        pytest.raises(ZiaError, match=r"shape \(3, 6\); give \[B, 18\], 3 global"),
        images(model, shown[:, :6]),
    ):
        pass
    with (
        pytest.raises(ZiaError, match=r"\(3, 18\); give \[B, tokens, 7\]"),
        images(seeing("llama-gqa", "queries"), shown),
    ):
        pass
    with (
        pytest.raises(ZiaError, match=r"shape \(2,\) and there are features of 3 samples"),
        images(model, shown, torch.ones(2, dtype=torch.bool)),
    ):
        pass
    with (
        pytest.raises(ZiaError, match=r"has_image is torch.int64 .*give one bool per sample"),
        images(model, shown, torch.ones(3, dtype=torch.int64)),
    ):
        pass
    with (
        pytest.raises(ZiaError, match=r"shape \(3, 18\); give \[B, 48\] or \[B, 5, 48\]"),
        condition(model, shown),
    ):
        pass
    with pytest.raises(ZiaError, match="3 rows and the batch 2 samples"), images(model, shown):
        output(model, inputs("llama-gqa"))
    timm, one = seeing("timm", "global"), shown[:1]
    with pytest.raises(ZiaError, match="1 rows and the batch 2 samples"), images(timm, one):
        output(timm, inputs("timm"))


def test_beams_are_rows_of_the_batch() -> None:
    model, ids = seeing("llama-gqa", "queries"), inputs("llama-gqa")["input_ids"]
    shown = features("queries", 2)
    options = {"max_new_tokens": 3, "num_beams": 2, "do_sample": False, "eos_token_id": None}
    with pytest.raises(ZiaError, match="repeat_interleave"), images(model, shown):
        model.generate(ids, **options)
    with images(model, shown.repeat_interleave(2, 0)):
        together = model.generate(ids, **options)
    with images(model, shown[1:].repeat_interleave(2, 0)):
        assert torch.equal(model.generate(ids[1:], **options)[0], together[1])


def test_a_backbone_with_a_part_of_that_name_keeps_it() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    BUILD["clip"] = lambda: CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
            image_size=16, patch_size=8,
        )
    )  # fmt: skip
    try:
        model = attach(build("clip"), ZeroInitConfig(prompt_length=2, num_layers=1))
    finally:
        del BUILD["clip"]
    with pytest.raises(ZiaError, match="part called visual_projection of its own"):
        attach_visual(model, GLOBAL)
    detach(model)
    assert model.visual_projection.weight.shape == (512, 16)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoder_width": 0}, "encoder_width must be at least 1, not 0"),
        ({"bottleneck": 1.5}, "bottleneck must be a whole number, not 1.5"),
        ({"projection": "mean"}, "must be one of global, queries"),
        ({"activation": "tanh"}, "must be one of gelu, relu, silu"),
        ({"depths": (1, 1)}, "name different layers"),
        ({"depths": (0,)}, "from 1 up or from -1 down"),
        ({"depths": ()}, "name different layers"),
        ({"depths": (1, 2), "projection": "queries"}, "tokens of one layer"),
        ({"heads": 7}, "multiple of heads=7"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ZiaError, match=sentence):
        VisualConfig(**{"encoder_width": 8, **change})  # type: ignore[arg-type]


def test_config_as_json() -> None:
    assert VisualConfig.from_json(GLOBAL.to_json()) == GLOBAL
    with pytest.raises(ZiaError, match="VisualConfig has no dropout"):
        VisualConfig.from_json({"encoder_width": 1, "dropout": 0.1})
