"""The command `zia generate`."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.chat import LARGEST_SEED, converse, stdin_lines
from experiments.cli.chat_session import Session
from experiments.cli.options import Device, chosen_models
from experiments.harness.chat import OWN, ChatModel, Decoding
from experiments.harness.experiment import Experiment
from experiments.io.terminal import side_by_side
from zia_core.errors import ZiaError

NAMED = re.compile(r"(?P<name>[\w-]+)=(?P<source>.+)", re.DOTALL)
RESERVED = (OWN, "none", "backbone", "default")


def generate(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [INSTRUCTION]",
            help="A finished run folder, unless --backbone is given; then instructions, by "
            "default those of a chat or of stdin.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|OWNER/NAME@REVISION", help="A model to chat with, without a run."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="paper|chat", help="Its prompts: the paper's, or the tokenizer's."),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="[NAME=]SOURCE",
            help="One more adapter: a folder, or owner/name[@revision] at the hub. May be "
            "repeated; the first one answers.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Answer as each adapter and as the backbone.")
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="T", min=0, max=100, help="Default: 0, greedy."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="P", min=0, max=1, help="Sample among the likeliest P."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Sample among the K likeliest tokens.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Default: as in the run, else 512.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, max=LARGEST_SEED, help="Of samples.")
    ] = 0,
    image: Annotated[
        Path | None, typer.Option(metavar="F", help="Image that the instructions are about.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Chat with a trained adapter, or compare it with its backbone.

    The adapter is that of a finished run or, with --backbone, any that was trained on that model.
    Instructions given as arguments are answered by backbone and adapter, each on its own. Without
    any, a terminal is a chat; other input has an instruction of its own in each line. With --top-p
    or --top-k alone the temperature is 1.
    """
    from experiments.harness import plan as planning

    if temperature is None:
        temperature = 0.0 if top_p is None and top_k is None else 1.0
    decoding = Decoding(max_new_tokens, temperature, top_p, top_k, seed)
    sources, words = _sources(adapters or []), list(given or [])
    if backbone is not None:
        if image is not None:
            raise ZiaError("--image needs a run whose method sees images: leave --backbone out")
        where = planning.resolve_device(device)
        model = chosen_models(backbone, None, None).backbone or backbone
        load = partial(_chats_with_backbone(), model, sources, template or "paper", where)
        _chat(load, words, decoding, compare)
    elif template is not None:
        raise ZiaError("a run has its own template: leave --template out, or give --backbone")
    elif not words:
        raise ZiaError("give a finished run folder, or a model with --backbone")
    else:
        run, prompts = Path(words[0]), words[1:]
        experiment = _experiment_of(run)
        where = planning.resolve_device(device)
        chosen = bool(sources) or compare or decoding != Decoding()
        load_run = None if image else experiment.chat
        if chosen and load_run is None:
            raise ZiaError(
                f"{experiment.name if image is None else 'an image'} cannot be chatted about: "
                "leave out all options but --image and --device"
            )
        if load_run is None or (prompts and not chosen):
            _before_and_after(experiment, run, prompts, image, where)
        else:
            unasked = partial(_before_and_after, experiment, run, [], None, where)
            load = partial(load_run, run, sources, where)
            _chat(load, prompts, decoding, compare, None if chosen else unasked)


def _experiment_of(run: Path) -> Experiment:
    from experiments.harness import registry, stored
    from experiments.io.files import read_json

    if not (run / stored.CONFIG).exists():
        raise ZiaError(f"there is no run in {run}: give a folder such as RUNS/EXPERIMENT/RUN")
    return registry.get(str(read_json(run / stored.CONFIG).get("experiment")))


def _chats_with_backbone() -> Callable[[str, Mapping[str, str], str, str], ChatModel]:
    from experiments.harness import registry

    return next(filter(None, (each.chat_with for each in registry.experiments().values())))


def _chat(
    load: Callable[[], ChatModel],
    prompts: Sequence[str],
    decoding: Decoding,
    compare: bool,
    unasked: Callable[[], None] | None = None,
) -> None:
    """Answer the prompts, a terminal, or the lines of stdin; if there is none, do `unasked`."""
    terminal = sys.stdin is not None and sys.stdin.isatty()
    lines = iter(()) if prompts or terminal else stdin_lines()
    first = next(lines, None)
    if unasked and not (prompts or terminal or first):
        unasked()
        return
    session = Session(load(), decoding, compare)
    if prompts:
        for prompt in prompts:
            session.tabulate(prompt)
    elif terminal:
        converse(session)
    else:
        session.answer_each(chain([first] if first else [], lines))


def _before_and_after(
    experiment: Experiment, run: Path, prompts: Sequence[str], image: Path | None, device: str
) -> None:
    """Show the answers of the backbone and of the run's adapter."""
    if image is not None:
        if experiment.generate_image is None:
            raise ZiaError(f"{experiment.name} sees no images: leave --image out")
        answers = experiment.generate_image(run, image, prompts, device)
    elif experiment.generate is not None:
        answers = experiment.generate(run, prompts, device)
    else:
        raise ZiaError(
            f"{experiment.name} has nothing to generate"
            + (
                " without an image: give --image, and a run whose method sees images"
                if experiment.generate_image
                else ""
            )
        )
    for each in answers:
        side_by_side(each.prompt, {"backbone": each.backbone, "with adapter": each.adapted})


def _sources(given: Sequence[str]) -> dict[str, str]:
    """The sources of --adapter by name; a folder or repository is called as its last part."""
    sources: dict[str, str] = {}
    for text in given:
        found = None if Path(text).exists() else NAMED.fullmatch(text)
        name, source = (found["name"], found["source"]) if found else ("", text)
        name = name or re.sub(r"[^\w-]+", "-", Path(source.partition("@")[0]).name).strip("-")
        if name in RESERVED or name in sources or not name:
            raise typer.BadParameter(
                f"{text!r}: the name {name!r} is taken; give another, NAME={source}",
                param_hint="--adapter",
            )
        sources[name] = source
    return sources
