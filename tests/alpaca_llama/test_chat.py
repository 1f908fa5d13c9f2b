"""A chat with tiny trained models: rows, history, seeds, context, and other people's adapters."""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.alpaca_llama.chat import chat, chat_with, joined
from experiments.alpaca_llama.experiment import EXPERIMENT
from experiments.backbones import language_models
from experiments.dispatch.in_process import run_one
from experiments.harness import stored
from experiments.harness.chat import Decoding, Turn
from experiments.language.alpaca_prompt import PROMPT_NO_INPUT
from experiments.language.chat import LanguageChat
from tests.alpaca_llama import world
from tests.cli.terminal import CTRL_C, CTRL_D, Terminal
from zia_core import ZiaError

GREEDY = Decoding(max_new_tokens=12)
SAMPLED = Decoding(max_new_tokens=12, temperature=1.5, top_k=50, seed=3)
PROMPT = "Say how many legs 3 spiders have."
# Far from the backbone after a few steps.
FAST = {"peak_lr": 1.0, "epochs": 0.5, "warmup_epochs": 0.0, "answered": 0, "evaluations": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def done(root: Path, method: str, **changes: object) -> Path:
    spec = world.spec(method, **({} if method == "frozen" else FAST) | changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return root / "runs" / spec.experiment / spec.folder_name


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    return done(root, "zero-init")


@pytest.fixture(scope="module")
def deeper(root: Path) -> Path:
    """An adapter with more layers and prompts than the run's."""
    return done(root, "zero-init", num_layers=3, prompt_length=5, peak_lr=2.0)


@pytest.fixture(scope="module")
def three(run: Path, deeper: Path) -> LanguageChat:
    return chat(run, {"deep": str(deeper)}, "cpu")


def answers(
    model: LanguageChat,
    adapters: Sequence[str | None],
    decoding: Decoding = GREEDY,
    turns: Sequence[Turn] = (),
    prompt: str = PROMPT,
) -> dict[str | None, str]:
    """What is shown, piece by piece, as each adapter."""
    found: dict[str | None, list[str]] = {adapter: [] for adapter in adapters}
    ended = []

    def show(adapter: str | None, piece: str, last: bool) -> None:
        assert adapter not in ended
        found[adapter].append(piece)
        if last:
            ended.append(adapter)

    model.answer(turns, prompt, adapters, decoding, show)
    assert sorted(map(str, ended)) == sorted(map(str, adapters))
    return {adapter: "".join(pieces) for adapter, pieces in found.items()}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("zero-init", {}),
        ("zero-init", {"precision": "nf4"}),
        ("random-init", {"peak_lr": 20.0}),
        ("random-init-gate", {}),
        ("lora", {}),
        ("adaption-prompt", {}),
        ("full", {}),
    ],
)
def test_answers_are_those_of_generate(root: Path, method: str, changes: dict[str, object]) -> None:
    path = done(root, method, **changes)
    assert EXPERIMENT.generate is not None
    (expected,) = EXPERIMENT.generate(path, [PROMPT], "cpu")
    model = chat(path, {}, "cpu")
    found = answers(model, model.adapters, Decoding())
    assert found["run"] == expected.adapted
    if method == "full":  # which has no backbone any more
        assert model.adapters == ["run"]
    else:
        assert found[None] == expected.backbone != expected.adapted


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_adapters_answer_in_one_batch_as_they_do_alone(
    three: LanguageChat, decoding: Decoding
) -> None:
    assert three.adapters == ["deep", "run", None]
    # Rows whose conversations differ in length, too.
    turns = [Turn("And?", {"deep": "", "run": "one", None: "one and two"})]
    alone = {each: answers(three, [each], decoding, turns)[each] for each in three.adapters}
    assert len(set(alone.values())) == 3
    passes = []
    hook = three.adapted.model.register_forward_hook(lambda *_: passes.append(1))
    assert answers(three, three.adapters, decoding, turns) == alone
    hook.remove()
    assert len(passes) <= decoding.max_new_tokens  # the weights are read once for all rows


def test_a_seed_gives_one_answer(three: LanguageChat) -> None:
    first = answers(three, ["run"], SAMPLED)
    torch.manual_seed(99)
    answers(three, ["deep"], SAMPLED, prompt="Something else.")
    assert answers(three, ["run"], SAMPLED) == first
    other = Decoding(max_new_tokens=12, temperature=1.5, top_k=50, seed=4)
    assert answers(three, ["run"], other) != first
    assert answers(three, ["run"], GREEDY) != first


def test_adapters_are_switched_without_loading_again(
    run: Path, deeper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = language_models.load

    def counted(*arguments: Any, **options: Any) -> Any:
        loaded.append(1)
        return load(*arguments, **options)

    monkeypatch.setattr(language_models, "load", counted)
    model = chat(run, {"deep": str(deeper)}, "cpu")
    found = [answers(model, [each])[each] for each in ("run", "deep", None, "run")]
    assert found[0] == found[3]
    assert len(set(found)) == 3
    assert len(loaded) == 1


def test_a_conversation_is_one_text(three: LanguageChat) -> None:
    turns = [Turn("First?", {"run": " One.", None: "Two."})]
    assert joined([], "Then?") == [PROMPT_NO_INPUT.format(instruction="Then?")]
    following = "\n\n### Instruction:\nThen?\n\n### Response:"
    text = PROMPT_NO_INPUT.format(instruction="First?") + "{}" + following
    for adapter, said in {"run": " One.", None: "Two.", "deep": " One."}.items():
        tokens = three._tokens(turns, "Then?", adapter)
        assert three.tokenizer.decode(tokens) == text.format(said)
    assert answers(three, ["run"], SAMPLED, turns) != answers(three, ["run"], SAMPLED)


def test_the_oldest_turns_leave_and_a_prompt_that_is_too_long_is_refused(
    three: LanguageChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [Turn(f"Prompt {i}?", {"run": "x" * 40, None: "x" * 90}) for i in range(4)]
    config = three.adapted.model.config
    lengths = {
        (kept, each): len(three._tokens(turns[4 - kept :], PROMPT, each))
        for kept in range(5)
        for each in ("run", None)
    }
    monkeypatch.setattr(config, "max_position_embeddings", lengths[2, "run"] + 12)
    assert three.fitting(turns, PROMPT, ["run"], GREEDY) == turns[2:]
    # Those of all rows, and the last prompt in any case.
    assert len(three.fitting(turns, PROMPT, ["run", None], GREEDY)) == 1
    monkeypatch.setattr(config, "max_position_embeddings", lengths[0, "run"] + 3)
    assert three.fitting(turns, PROMPT, ["run"], GREEDY) == []
    short = answers(three, ["run"], GREEDY)["run"]
    assert short == answers(three, ["run"], Decoding(max_new_tokens=3))["run"]
    monkeypatch.setattr(config, "max_position_embeddings", lengths[0, "run"])
    said = rf"the prompt has {lengths[0, 'run']} tokens, and smollm2-135m-instruct reads"
    with pytest.raises(ZiaError, match=said):
        answers(three, ["run"], GREEDY)


def test_ctrl_c_within_a_pass_leaves_the_model_as_it_was(three: LanguageChat) -> None:
    expected = answers(three, three.adapters)
    shown = []

    def show(adapter: str | None, piece: str, last: bool) -> None:
        shown.append(piece)
        if len(shown) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            three.answer([], PROMPT, three.adapters, GREEDY, show)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 4 <= len(shown) < 12
    assert answers(three, three.adapters) == expected


def test_a_run_that_trained_nothing_lends_its_backbone(root: Path, deeper: Path) -> None:
    frozen = done(root, "frozen")
    with pytest.raises(ZiaError, match="trained nothing: take one of another method"):
        chat(frozen, {}, "cpu")
    model = chat(frozen, {"deep": str(deeper)}, "cpu")
    assert model.adapters == ["deep", None]


def test_an_adapter_of_the_hub(run: Path, deeper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, file: str, revision: str | None) -> str:
        asked.append((name, revision))
        return str(deeper / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model = chat(run, {"deep": "owner/name@v1"}, "cpu")
    assert model.adapters == ["deep", "run", None]
    assert set(asked) == {("owner/name", "v1")}


def test_adapters_without_a_run(root: Path, run: Path, deeper: Path, tmp_path: Path) -> None:
    """On the backbone that is named, a folder or a known one, whatever else is there."""
    saved = tmp_path / "saved"
    saved.mkdir()
    shutil.copy(deeper / stored.ADAPTER, saved)
    sources = {"mine": str(saved), "its": str(run)}
    name = "smollm2-135m-instruct"
    model = chat_with(name, sources, "paper", "cpu")
    assert model.adapters == ["mine", "its", None]
    assert model.adapted.model.dtype == torch.bfloat16
    found = answers(model, model.adapters)
    assert len(set(found.values())) == 3
    assert found == answers(chat_with(name, sources, "paper", "cpu"), model.adapters)
    alone = chat_with(str(root / "weights" / name), {}, "paper", "cpu")
    assert alone.adapters == [None]
    assert answers(alone, [None])[None] == found[None]
    with pytest.raises(ZiaError, match="no chat template"):
        chat_with(name, {}, "chat", "cpu")
    with pytest.raises(ZiaError, match="there is no template 'papr'; choose from: paper, chat"):
        chat_with(name, {}, "papr", "cpu")
    with pytest.raises(ZiaError, match=r"There is no adapter at .*nothing"):
        chat_with(name, {"x": str(tmp_path / "nothing")}, "paper", "cpu")


def test_what_cannot_answer_is_one_sentence(root: Path, run: Path, tmp_path: Path) -> None:
    lora = done(root, "lora")
    with pytest.raises(ZiaError, match=r"that of the method lora of .*: leave --adapter out"):
        chat(lora, {"x": str(run)}, "cpu")
    with pytest.raises(ZiaError, match="holds lora, not zero-init attention"):
        chat(run, {"x": str(lora)}, "cpu")
    with pytest.raises(ZiaError, match=r"There is no adapter at .*nothing"):
        chat(run, {"x": str(tmp_path / "nothing")}, "cpu")
    with pytest.raises(ZiaError, match=r"frozen-.* trained nothing"):
        chat(run, {"x": str(done(root, "frozen"))}, "cpu")
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    (changed / stored.METRICS).write_text("")
    with pytest.raises(ZiaError, match=r"metrics\.jsonl"):
        chat(run, {"x": str(changed)}, "cpu")


def test_an_adapter_of_another_backbone_is_refused(
    root: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_weights(root / "other" / "smollm2-135m-instruct", seed=1)
    monkeypatch.setenv("ZIA_WEIGHTS", str(root / "other"))
    with pytest.raises(ZiaError, match=r"trained on LlamaForCausalLM.*different: fingerprint"):
        chat(run, {}, "cpu")


def test_a_model_chats_in_a_terminal(root: Path, run: Path, repository: Path) -> None:
    prompt = "Say how many legs 4 spiders have."
    expected = answers(chat(run, {}, "cpu"), ["run"], Decoding(), prompt=prompt)["run"]
    terminal = Terminal(
        *("-m", "experiments.cli", "generate", run, "--device", "cpu", "--max-new-tokens", "2000"),
        cwd=repository,
        ZIA_WEIGHTS=str(root / "weights"),
        PYTHONIOENCODING="utf-8",
    )
    terminal.until(">>> ", seconds=300)
    terminal.type(f"{prompt}\n")
    # It goes on for as long as it may; what is seen first is how a short answer begins.
    seen = terminal.until(expected[:6])
    assert seen.endswith(f"{prompt}\n{expected[:6]}")
    terminal.type(CTRL_C)
    terminal.until("(/exit or Ctrl-D ends the chat)\n>>> ")
    assert terminal.ask("/undo") == f"forgotten: {prompt}"
    terminal.type(CTRL_D)
    assert terminal.close() == 0
