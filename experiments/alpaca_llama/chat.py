"""Chat in Alpaca's prompt, or in the chat template of a tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.alpaca_llama.instructions import (
    NINE_INSTRUCTIONS,
    Instruction,
    own_instructions,
)
from experiments.alpaca_llama.settings import Settings
from experiments.harness.registry import check_choice
from experiments.language.alpaca_prompt import FOLLOWING, prompt_text
from experiments.language.chat import LanguageChat, load, load_backbone
from experiments.language.templates import TEMPLATES, named


def chat(path: Path, sources: Mapping[str, str], device: str) -> LanguageChat:
    """Load a run, with further adapters by name, to chat with."""
    spec, adapted, tokenizer = load(path, sources, device, Settings)
    own = [each.instruction for each in own_instructions(spec.profile) if not each.input]
    length, template = spec.settings.new_tokens, named(spec.settings.template, tokenizer)
    return LanguageChat(spec.backbone, adapted, tokenizer, length, joined, own, template)


def chat_with(asked: str, sources: Mapping[str, str], template: str, device: str) -> LanguageChat:
    """Load a backbone that no run names, with adapters by name, to chat with."""
    check_choice("template", template, TEMPLATES)
    name, adapted, tokenizer = load_backbone(asked, sources, device)
    examples = [each.instruction for each in NINE_INSTRUCTIONS if not each.input]
    prompts = named(template, tokenizer)
    return LanguageChat(name, adapted, tokenizer, Settings().new_tokens, joined, examples, prompts)


def joined(turns: Sequence[tuple[str, str]], prompt: str) -> list[str]:
    """Prompt, answer, prompt, ..., prompt.

    The paper's prompt has no history. Ours says the sentence at its top once, and puts each further
    instruction below the answer before it, without an EOS between [ours].
    """
    prompts = [*(asked for asked, _ in turns), prompt]
    texts = [prompt_text(Instruction("0", prompts[0]))]
    for (_, answer), following in zip(turns, prompts[1:], strict=True):
        texts += [answer, FOLLOWING.format(instruction=following)]
    return texts
