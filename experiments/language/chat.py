"""Chat with the language model of a run, as its adapters or as the backbone alone."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models
from experiments.harness import stored
from experiments.harness.chat import OWN, Decoding, Show, Turn
from experiments.harness.spec import RunSpec
from experiments.language.answers import generation_config
from experiments.language.methods import prepare
from experiments.language.settings import LanguageSettings
from experiments.language.streaming import BatchStreamer, RowText
from experiments.language.templates import ChatTemplate, Template
from experiments.language.token_rows import padded
from experiments.language.tokens import prompt_ids, response_ids
from experiments.training.optimisation import in_four_bits, set_threads, weights_dtype
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Adapters = Sequence[str | None]


@dataclass(frozen=True)
class Adapted:
    """A model with adapters, and how to answer as some of them.

    `answering(model, adapters)` is the block to generate in: each row as its own adapter or, if not
    `in_rows`, all as the only one.
    """

    model: Any
    adapters: Adapters
    answering: Callable[[Any, Adapters], AbstractContextManager[Any]]
    in_rows: bool


@dataclass(frozen=True)
class LanguageChat:
    """A `ChatModel`.

    `joined` makes prompt, answer, prompt, ..., prompt of a conversation, where `template` is not a
    chat model's own.
    """

    title: str
    adapted: Adapted
    tokenizer: "PreTrainedTokenizerBase"
    new_tokens: int
    joined: Callable[[Sequence[tuple[str, str]], str], Sequence[str]]
    examples: Sequence[str]
    template: Template

    @property
    def adapters(self) -> Adapters:
        """Its adapters; None is the backbone without any."""
        return self.adapted.adapters

    def fitting(
        self, turns: Sequence[Turn], prompt: str, adapters: Adapters, decoding: Decoding
    ) -> Sequence[Turn]:
        """The latest turns that leave room for the longest answer."""
        limit = self._context() - self._new_tokens(decoding)
        for left_out in range(len(turns)):
            rest = turns[left_out:]
            if max(len(self._tokens(rest, prompt, each)) for each in adapters) <= limit:
                return rest
        return []

    def answer(
        self,
        turns: Sequence[Turn],
        prompt: str,
        adapters: Adapters,
        decoding: Decoding,
        show: Show,
    ) -> None:
        """Answer as each of the adapters: in one batch, where the method can."""
        together = [adapters] if self.adapted.in_rows else [[each] for each in adapters]
        for batch in together:
            self._generate([self._tokens(turns, prompt, each) for each in batch],
                           batch, decoding, show)  # fmt: skip

    def _generate(
        self, prompts: Sequence[list[int]], adapters: Adapters, decoding: Decoding, show: Show
    ) -> None:
        import torch

        from experiments.language.seeded_sampling import processors

        longest = max(map(len, prompts))
        room = self._context() - longest
        if room < 1:
            raise ZiaError(
                f"the prompt has {longest:,} tokens, and {self.title} reads {self._context():,} "
                "with the answer: shorten it"
            )
        new_tokens = min(room, self._new_tokens(decoding))
        config = generation_config(
            self.tokenizer, self.template.ends, max_new_tokens=new_tokens, do_sample=False
        )
        ids, mask = padded(prompts, config.pad_token_id, "left")
        model = self.adapted.model
        device = next(model.parameters()).device
        ends = self.template.ends
        rows = [RowText(self.tokenizer, partial(show, each), ends) for each in adapters]
        with torch.no_grad(), self.adapted.answering(model, adapters):
            model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=processors(decoding),
                streamer=BatchStreamer(rows),
            )

    def _tokens(self, turns: Sequence[Turn], prompt: str, adapter: str | None) -> list[int]:
        """A conversation as the adapter remembers it."""
        pairs = [(turn.prompt, turn.answer(adapter)) for turn in turns]
        if isinstance(self.template, ChatTemplate):
            return self.template.conversation_ids(pairs, prompt)
        first, *rest = self.joined(pairs, prompt)
        (tokens,) = prompt_ids(self.tokenizer, [first])
        # Each text is tokenised as a continuation, as responses are in training.
        for ids in response_ids(self.tokenizer, rest) if rest else []:
            tokens += ids[:-1]
        return tokens

    def _context(self) -> int:
        config = self.adapted.model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or sys.maxsize

    def _new_tokens(self, decoding: Decoding) -> int:
        return decoding.max_new_tokens or self.new_tokens


def load(
    path: Path,
    sources: Mapping[str, str],
    device: str,
    settings_type: type,
) -> tuple[RunSpec, Adapted, "PreTrainedTokenizerBase"]:
    """Load the backbone of a run, once, with the run's adapter and others.

    Args:
        path: folder of the run. It needs no adapter if others are given.
        sources: further adapters by name: folders, files, or `owner/name[@revision]` at the hub.
        device: of the model.
        settings_type: of the experiment.

    Raises:
        ZiaError: an adapter is missing, damaged, or of another backbone, or the run's method has
            none beside which others can be used.
    """
    from zia_core.adapters import unpacked
    from zia_core.identity import backbone_identity
    from zia_core.trained_weights import load_trained

    spec = RunSpec.from_json(stored.load_sealed(path).config, settings_type)
    settings: LanguageSettings = spec.settings
    own = path / stored.ADAPTER
    if not sources or own.exists():
        stored.with_adapter(path)
    _check_runs(sources)
    with_prompts = not own.exists() or _separate(unpacked(own)[0])
    if sources and not with_prompts:
        raise ZiaError(
            f"no other adapter can be used beside that of the method {spec.method} of {path}: "
            "leave --adapter out, or give a run of zero-init or frozen"
        )
    set_threads(settings)
    model: Any
    model, tokenizer, _ = language_models.load(
        language_models.get(spec.backbone),
        weights_dtype(settings),
        device,
        four_bit=in_four_bits(settings),
    )
    if with_prompts:
        files = {**sources, **({OWN: str(own)} if own.exists() else {})}
        return spec, _with_named(model, files), tokenizer
    identity = backbone_identity(model)
    model = prepare(model, spec.method, settings).eval()
    load_trained(model, own, identity)
    return spec, _with_one(model), tokenizer


def load_backbone(
    asked: str, sources: Mapping[str, str], device: str
) -> tuple[str, Adapted, "PreTrainedTokenizerBase"]:
    """Load a language model that no run names, in bfloat16, with adapters of it.

    Args:
        asked: what `language_models.causal` takes.
        sources: adapters by name: folders, files, or `owner/name[@revision]` at the hub.
        device: of the model.

    Returns:
        The model's name, the model, and its tokenizer.

    Raises:
        ZiaError: as `language_models.causal`, or an adapter is missing, damaged, or of another
            backbone.
    """
    _check_runs(sources)
    backbone = language_models.causal(asked)
    dtype = weights_dtype(LanguageSettings())
    model, tokenizer, _ = language_models.load(backbone, dtype, device)
    if sources:
        return backbone.name, _with_named(model, sources), tokenizer
    alone = Adapted(model, [None], lambda model, adapters: nullcontext(), in_rows=False)
    return backbone.name, alone, tokenizer


def _check_runs(sources: Mapping[str, str]) -> None:
    """ZiaError if one of the sources is a run that is damaged or has no adapter."""
    for source in map(Path, sources.values()):
        if (source / stored.CONFIG).exists():
            stored.with_adapter(source)


def _separate(about: Mapping[str, Any]) -> bool:
    """Whether an adapter has prompts with a softmax of their own, which batches can mix."""
    from zia_core import ZeroInitConfig
    from zia_core.adapters import METHOD

    return (
        about["method"] == METHOD
        and ZeroInitConfig.from_json(about["config"]).softmax == "separate"
    )


def _with_named(model: Any, files: Mapping[str, str]) -> Adapted:
    from zia_core import ZeroInitConfig, add, attach, use
    from zia_core.adapters import adapter_file
    from zia_core.families import attention_layers

    found = [adapter_file(source)[1] for source in files.values()]
    deepest = max(ZeroInitConfig.from_json(about["config"]).num_layers for about in found)
    # Adapters are added to layers that are adapted already, here by prompts that nothing uses.
    layers = min(deepest, len(attention_layers(model)))
    attach(model, ZeroInitConfig(prompt_length=1, num_layers=layers))
    for name, source in files.items():
        add(model, name, source)

    def answering(model: Any, adapters: Adapters) -> AbstractContextManager[Any]:
        return use(model, adapters if len(adapters) > 1 else adapters[0])

    return Adapted(model.eval(), [*files, None], answering, in_rows=True)


def _with_one(model: Any) -> Adapted:
    """A model whose own adapter is the only one, of any method."""
    from zia_core import use, zero_init_layers

    def with_prompts(model: Any, adapters: Adapters) -> AbstractContextManager[Any]:
        return nullcontext() if adapters[0] else use(model, None)

    def with_peft(model: Any, adapters: Adapters) -> AbstractContextManager[Any]:
        return nullcontext() if adapters[0] else model.disable_adapter()

    if zero_init_layers(model):
        return Adapted(model, [OWN, None], with_prompts, in_rows=False)
    if hasattr(model, "disable_adapter"):
        return Adapted(model, [OWN, None], with_peft, in_rows=False)
    # Fine-tuning has changed the backbone itself.
    return Adapted(model, [OWN], lambda model, adapters: nullcontext(), in_rows=False)
