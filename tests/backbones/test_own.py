"""Models of one's own: what they are called, that they are the same anywhere, and bad input."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from experiments.backbones import language_models, own, text_encoders, vision_models
from experiments.images import encoders
from tests.backbones.meta_format import random_llama
from tests.backbones.meta_format import write as write_meta
from tests.backbones.test_meta_llama import tokenizer_json
from tests.backbones.tiny_models import (
    CAUSAL,
    READER,
    READERS,
    SPECIAL,
    byte_tokenizer,
    write_causal,
    write_reader,
    write_vit,
)
from zia_core import ZiaError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, an empty cache of the hub, and a process that has seen no folder."""
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(own, "_folders", {})
    own.small_files.cache_clear()


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_folder_is_named_by_its_content(tmp_path: Path, kind: str) -> None:
    folder = write_causal(tmp_path / "here" / "my model", kind, layers=3)
    found = language_models.causal(str(folder))
    assert own.FOLDER_NAME.fullmatch(found.name)
    assert found.name.startswith("my-model@sha256-")
    assert found.layers == 3
    model, tokenizer, weights = language_models.load(found, torch.float32, "cpu")
    assert model.config.num_hidden_layers == 3
    assert tokenizer.eos_token == "</s>"
    assert list(weights) == ["model.safetensors"]
    moved = shutil.copytree(folder, tmp_path / "there" / "my model")
    assert language_models.causal(str(moved)).name == found.name
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert language_models.causal(str(moved)).name != found.name


@pytest.mark.parametrize("meta", [False, True])
def test_one_bit_of_the_weights_makes_another_name(tmp_path: Path, meta: bool) -> None:
    if meta:
        write_meta(random_llama(), tmp_path / "model", 2)
        tokenizer_json(tmp_path / "model")
        file = tmp_path / "model" / "consolidated.01.pth"
    else:
        file = write_causal(tmp_path / "model") / "model.safetensors"
    before = own.named(str(file.parent), [])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert own.named(str(file.parent), []) != before


def test_a_finished_run_s_folder_is_found_in_the_weights(tmp_path: Path) -> None:
    """As `zia generate` does in another process, and on another machine."""
    name = language_models.causal(str(write_causal(tmp_path / "elsewhere" / "mine"))).name
    own._folders.clear()
    with pytest.raises(ZiaError, match=r"no weights of mine@sha256-.*put the folder or a link"):
        language_models.get(name)
    shutil.copytree(tmp_path / "elsewhere" / "mine", tmp_path / "weights" / "mine")
    assert language_models.get(name).local == tmp_path / "weights" / "mine"
    assert language_models.causal("mine").name == name
    own._folders.clear()
    write_causal(tmp_path / "weights" / "mine", layers=2)
    with pytest.raises(ZiaError, match=r"mine is not mine@sha256-.*: its files have changed"):
        language_models.get(name)


def test_metas_format(tmp_path: Path) -> None:
    write_meta(random_llama(), tmp_path / "13B", 2)
    tokenizer_json(tmp_path / "13B")
    found = language_models.causal(str(tmp_path / "13B"))
    assert (found.name[:11], found.layers) == ("13B@sha256-", 2)
    language_models.load(found, torch.float32, "cpu")


def cached(tmp_path: Path, repository: str, folder: Path, branch: str = "main") -> None:
    """The hub's repository, as its client keeps it."""
    root = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / branch).write_text(COMMIT)
    shutil.copytree(folder, root / "snapshots" / COMMIT)


def test_a_repository_is_named_by_its_commit(tmp_path: Path) -> None:
    cached(tmp_path, "owner/model", write_causal(tmp_path / "model"))
    for asked in ("owner/model", "owner/model@main", f"owner/model@{COMMIT}"):
        found = language_models.causal(asked)
        assert (found.name, found.hub, found.revision) == (
            f"owner/model@{COMMIT}",
            "owner/model",
            COMMIT,
        )
    assert language_models.load(found, torch.float32, "cpu")[0].config.num_hidden_layers == 3
    with pytest.raises(ZiaError, match=r"no backbone 'owner/model@v2'.*hub cannot be reached"):
        language_models.causal("owner/model@v2")


def test_readers_and_vits(tmp_path: Path) -> None:
    after_padding = dict.fromkeys(("roberta", "xlm-roberta", "camembert"), 93)
    for kind, positions in (dict.fromkeys(READERS, 96) | after_padding).items():
        name = text_encoders.reader(str(write_reader(tmp_path / kind, kind)))
        assert text_encoders.positions(name) == positions
        assert language_models.get(name).layers == 2
    for kind in ("vit", "dinov2", "timm"):
        folder = write_vit(tmp_path / f"image-{kind}", kind)
        found = vision_models.vit(str(folder))
        assert (found.layers, found.resolution) == (3, 32)
        assert encoders.named(str(folder)) == (found.name, 3)
        encoder = encoders.load(found.name)
        assert (encoder.depth, encoder.width) == (3, 16)
    assert encoders.named(str(write_vit(tmp_path / "clip", "clip")))[1] == 3
    assert text_encoders.positions("roberta-large") is None
    assert encoders.named("clip-vit-l-14") == ("clip-vit-l-14", 24)


def faulty(folder: Path, fault: str) -> Path:
    """A folder that is not a causal language model, in one way."""
    if fault == "a masked model":
        return write_reader(folder)
    if fault == "an image model":
        return write_vit(folder)
    if fault == "a timm model":
        return write_vit(folder, "timm")
    write_causal(folder)
    if fault == "an adapter":
        (folder / "adapter_config.json").write_text("{}")
    elif fault == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif fault == "no configuration":
        (folder / "config.json").unlink()
    elif fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "another tokenizer":
        byte_tokenizer(SPECIAL | {f"extra_{i}": f"<{i}>" for i in range(13)}).save_pretrained(
            folder
        )
    elif fault == "a family":
        config = {"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 8}
        (folder / "config.json").write_text(json.dumps(config))
    elif fault == "nothing known":
        (folder / "config.json").write_text('{"model_type": "mine"}')
    elif fault == "no depth":
        config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": "two"}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("an adapter", r"is an adapter \(adapter_config\.json\), not a model: give the folder of"),
        ("no tokenizer", r"has no tokenizer: put its tokenizer\.json beside its config\.json"),
        ("no configuration", r"is not a model: it has no config\.json"),
        ("no weights", r"has no weights: it needs \*\.safetensors beside its config\.json"),
        ("another tokenizer", "is another model's: its token .* has the number 272, and .* 271"),
        ("a family", "cannot be a language model here: .*MambaForCausalLM"),
        ("nothing known", r"cannot be a language model here: .*`mine`"),
        ("no depth", "cannot be a language model here: .*num_hidden_layers"),
        ("a masked model", r"is not a causal language model: its tokens see later ones"),
        ("an image model", r"language model here: its config\.json is that of a vit, another kind"),
        (
            "a timm model",
            r"language model here: its config\.json is that of timm's vit_tiny.*images",
        ),
    ],
)
def test_what_is_not_a_language_model(tmp_path: Path, fault: str, sentence: str) -> None:
    folder = faulty(tmp_path / "model", fault)
    with pytest.raises(ZiaError, match=sentence) as refused:
        language_models.causal(str(folder))
    assert "\n" not in str(refused.value)


def test_a_reader_needs_padding_and_its_own_tokenizer(tmp_path: Path) -> None:
    folder = write_reader(tmp_path / "reader")
    names = {role: text for role, text in READER.items() if role != "pad_token"}
    byte_tokenizer(names | {"unk_token": "<pad>"}).save_pretrained(folder)
    with pytest.raises(ZiaError, match=r"reader@.* has no padding token"):
        text_encoders.reader(str(folder))


def test_a_special_token_that_no_text_has_may_be_beyond_the_vocabulary(tmp_path: Path) -> None:
    """As Gemma 3's for images; but not the padding that some add to LLaMA's tokenizer."""
    folder = write_causal(tmp_path / "model", vocab_size=260)
    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    found = language_models.causal(str(folder))
    language_models.load(found, torch.float32, "cpu")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ZiaError, match=r"its token '\[PAD\]' has the number 261, and the model's"):
        language_models.causal(str(folder))


def test_a_fetched_model_needs_no_hub(tmp_path: Path) -> None:
    name = f"owner/model@{COMMIT}"
    with pytest.raises(ZiaError, match="the hub cannot be reached"):
        language_models.causal(name)
    write_causal(tmp_path / "weights" / f"owner--model@{COMMIT}")
    assert language_models.causal(name).name == name
    folder = write_vit(tmp_path / "weights" / f"owner--vit@{COMMIT}", "dinov2")
    assert encoders.named(f"owner/vit@{COMMIT}") == (f"owner/vit@{COMMIT}", 3)
    assert encoders.source(f"owner/vit@{COMMIT}").local == folder
    assert encoders.load(f"owner/vit@{COMMIT}").depth == 3


def test_other_wrong_choices(tmp_path: Path) -> None:
    llama = str(write_causal(tmp_path / "llama"))
    with pytest.raises(
        ZiaError, match=r"an encoder like BERT: LlamaForQ.* is not a transformers BERT"
    ):
        text_encoders.reader(llama)
    decoder = write_reader(tmp_path / "decoder", "bert", is_decoder=True)
    with pytest.raises(ZiaError, match="an encoder like BERT: its tokens do not see later ones"):
        text_encoders.reader(str(decoder))
    with pytest.raises(ZiaError, match=r"is not a ViT for image tasks: .*model_type 'llama'"):
        vision_models.vit(llama)
    with pytest.raises(ZiaError, match="model_type 'clip_vision_model'; take a ViT of timm"):
        vision_models.vit(str(write_vit(tmp_path / "clip", "clip")))
    with pytest.raises(ZiaError, match=r"is not a ViT: its config\.json has no patch_size"):
        encoders.named(llama)
    config = tmp_path / "resnet" / "config.json"
    write_vit(config.parent, "timm")
    for architecture, sentence in (
        ("resnet18", "is not a ViT for image tasks"),
        ("no_such_net", "Unknown model"),
        ("hf-hub:x/y", "names a place"),
    ):
        config.write_text(json.dumps({"architecture": architecture}))
        with pytest.raises(ZiaError, match=sentence):
            vision_models.vit(str(config.parent))
    for asked, sentence in (
        ("nothing", r"there is no backbone 'nothing': .*nor one of: llama-7b, smol"),
        (str(tmp_path / "nowhere"), "there is no folder '.*nowhere' to take a backbone from"),
        ("./nowhere", r"there is no folder '\./nowhere'"),
    ):
        with pytest.raises(ZiaError, match=sentence):
            language_models.causal(asked)
    for kind, what in (("vit", "of a vit, another kind"), ("timm", "of timm's vit_tiny")):
        with pytest.raises(
            ZiaError, match=rf"an encoder like BERT: its config\.json is that {what}"
        ):
            text_encoders.reader(str(write_vit(tmp_path / f"other-{kind}", kind)))


def test_a_known_model_is_a_decoder_or_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    for name, known in language_models.BACKBONES.items():
        taken, refused = language_models.causal, text_encoders.reader
        said = "a language model, and an encoder is needed"
        if known.encoder:
            taken, refused = refused, taken
            said = "an encoder, and a language model is needed"
        taken(name)
        with pytest.raises(ZiaError, match=f"^{name} is {said}: give a model of your own"):
            refused(name)
