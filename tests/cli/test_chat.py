"""`zia generate` as a chat in a real terminal, and with a pipe, on the toy experiment."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.cli.chat_session import InOrder
from experiments.harness import registry
from tests.cli import chat_toy
from tests.cli.terminal import CTRL_C, CTRL_D, Terminal
from tests.harness import toy

SCRIPT = Path(chat_toy.__file__)
Generate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the toy."""
    from experiments.dispatch.in_process import run_one

    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "experiments", toy.only_toy)
        assert run_one(toy.spec(), runs).state == "done"
    return runs / "toy" / toy.spec().folder_name


@pytest.fixture
def generate(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generate:
    """`generate("--seed 3", stdin=...)`: exit code, stdout, stderr; words may have spaces."""
    monkeypatch.setattr(registry, "experiments", chat_toy.only_this)
    monkeypatch.setenv("COLUMNS", "80")

    def call(
        line: str = "", *words: str, stdin: bytes = b"", of: tuple[str, ...] = (str(run),)
    ) -> tuple[int, str, str]:
        stream = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)
        monkeypatch.setattr(sys, "argv", ["zia", "generate", *of, *line.split(), *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def terminal(run: Path, repository: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal("--compare")`: a chat that waits for the first prompt."""
    opened = []

    def start(*options: str, of: tuple[str, ...] = (str(run),)) -> Terminal:
        arguments = ("generate", *of, "--device", "cpu", *options)
        opened.append(Terminal(SCRIPT, *arguments, cwd=run, PYTHONPATH=str(repository)))
        opened[-1].until(">>> ")
        return opened[-1]

    yield start
    for each in opened:
        each.child.kill()


def test_a_conversation(terminal: Callable[..., Terminal]) -> None:
    chat = terminal("--seed", "7", "--adapter", "french=x/y")
    assert chat.ask("one") == "french#7()one"
    assert chat.ask("two") == "french#7(one=french#7()one)two"
    assert chat.ask("/undo") == "forgotten: two"
    assert chat.ask("/seed 8").startswith("(answers are greedy and need no seed")
    # Another adapter reads what was said to the one before.
    assert chat.ask("/adapter run") == "adapter run; there are french, run, none"
    assert chat.ask("three") == "run#8(one=french#7()one)three"
    assert chat.ask("/clear") == "a new conversation"
    assert chat.ask("/adapter none") == "without an adapter; there are french, run, none"
    assert chat.ask("four") == "None#8()four"
    assert chat.ask("/walk") == "there is no command '/walk'; /help lists them"
    assert chat.ask(" /etc/hosts") == "None#8(four=None#8()four)/etc/hosts"
    for wrong, said in {
        "/seed -1": "a seed is a whole number from 0 to 9223372036854775807, not '-1'",
        "/adapter x": "there is no adapter 'x'; choose from: french, run, none",
        "long": "the prompt is too long",
    }.items():
        assert chat.ask(wrong) == said
    chat.ask("/clear")
    assert chat.ask("/undo") == "there is nothing to undo"
    assert chat.ask("/examples") == "Add 1 and 2."
    helped = chat.ask("/help").splitlines()
    assert max(map(len, helped)) <= 80
    assert [line.split()[0] for line in helped[:8]] == [
        *("/help", "/clear", "/undo", "/adapter", "/compare", "/seed", "/examples", "/exit")
    ]
    chat.type('"""two\n')
    chat.until("... ")
    assert chat.ask('lines"""') == "None#8()two\nlines"
    chat.type(CTRL_D)
    assert chat.close() == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(terminal: Callable[..., Terminal]) -> None:
    chat = terminal()
    chat.type("slow\n")
    # Pieces are seen while the answer is still being made: it would never end.
    chat.until("\nrun...")
    chat.type(CTRL_C)
    chat.until("(/exit or Ctrl-D ends the chat)\n>>> ")
    # What was shown of the answer is remembered.
    remembered = chat.ask("next")
    assert remembered.startswith("run#0(slow=run...")
    assert remembered.endswith(".)next")
    chat.interrupt("half")
    chat.until("(/exit or Ctrl-D ends the chat)\n>>> ")
    chat.ask("/clear")
    assert chat.ask("after") == "run#0()after"
    chat.type("/exit\n")
    assert chat.close() == 0


def test_compared_adapters_remember_their_own_answers(terminal: Callable[..., Terminal]) -> None:
    chat = terminal("--compare", "--adapter", "french=x/y")
    first = {name: f"{name}#0()one" for name in ("None", "french", "run")}
    assert chat.ask("one").split("\n") == [
        *("[backbone]", first["None"], "[french]", first["french"], "[run]", first["run"])
    ]
    assert chat.ask("two").split("\n")[5] == f"run#0(one={first['run']})two"
    assert chat.ask("/compare") == "adapter french"
    assert chat.ask("/undo") == "forgotten: two"
    assert chat.ask("three") == f"french#0(one={first['french']})three"


def test_that_turns_are_left_out_is_said_once(terminal: Callable[..., Terminal]) -> None:
    chat = terminal()
    answers = [chat.ask(f"t{i}") for i in range(6)]
    said = [answer.startswith("(the oldest turns do not fit") for answer in answers]
    assert said == [False, False, False, False, True, False]
    assert "t0=" in answers[3]
    assert "(t2=" in answers[5]


def test_each_line_of_a_pipe_is_answered_on_its_own(generate: Generate) -> None:
    code, out, err = generate("--seed 3", stdin=b"one\n\n  two \n/clear\n")
    assert (code, err) == (0, "")
    assert out == "run#3()one\n\nrun#3()two\n\nrun#3()/clear\n\n"
    _, out, _ = generate("--compare", stdin=b"one\n")
    assert out == "[backbone]\nNone#0()one\n[run]\nrun#0()one\n\n"


def test_untrusted_text_is_printed_safely(generate: Generate) -> None:
    _, out, _ = generate(stdin="a\x1b[2Jb\u202e\n".encode())
    assert out == "run#0()a\\x1b[2Jb\\u202e\n\n"
    code, out, err = generate(stdin=b"fine\nn\xffn\n")
    assert (code, out) == (1, "run#0()fine\n\n")
    assert err == "zia: this line is not text in utf-8: 'n\\udcffn'\n"


def test_what_scripts_read_is_as_it_was(generate: Generate) -> None:
    """Arguments, and no input at all: a table of the experiment's own `generate`."""
    table = generate("Why")[1]
    assert table.startswith("Why\n")
    assert "with adapter" in table
    assert "WHY" in table
    assert "HELLO" in generate(stdin=b"")[1]
    assert generate("--seed 3", stdin=b"") == (0, "", "")


def test_arguments_with_options_have_a_column_for_each(generate: Generate) -> None:
    _, out, _ = generate("--adapter french=x/y --top-k 5 one two")
    assert out.count("backbone") == out.count("french ") == 2
    assert "run#0()one" in out
    assert "french#0()two" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--temperature -1", "'--temperature': Input should be greater than or equal to 0"),
        ("--temperature nan", "'--temperature': Input should be less than or equal to 100"),
        ("--temperature warm", "'--temperature': Input should be a valid number"),
        ("--top-p 1.5", "'--top-p': Input should be less than or equal to 1"),
        ("--top-p -0.1", "'--top-p': Input should be greater than or equal to 0"),
        ("--top-k 0", "'--top-k': Input should be greater than or equal to 1"),
        ("--max-new-tokens 0", "'--max-new-tokens': Input should be greater than"),
        ("--seed -1", "'--seed': Input should be greater than or equal to 0"),
        (f"--seed {2**63}", f"'--seed': Input should be less than or equal to {2**63 - 1}"),
        ("--adapter .", "'.': the name '' is taken; give another, NAME="),
        ("--adapter run=x", "'run=x': the name 'run' is taken; give another, NAME=x"),
        ("--adapter a/b --adapter c/b", "'c/b': the name 'b' is taken; give another, NAME=c/b"),
        ("--adapter a.b/c.d@main --adapter c-d=x", "the name 'c-d' is taken"),
    ],
)
def test_bad_values_are_one_sentence(generate: Generate, line: str, said: str) -> None:
    code, out, err = generate(f"{line} one")
    assert (code, out) == (2, "")
    assert err.startswith("zia: ")
    assert said in err
    assert err.count("\n") == 1


def test_what_cannot_be_is_one_sentence(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate("--compare --adapter a=only", stdin=b"one\n")[::2] == (
        1,
        "zia: nothing to compare: the method of this run has changed the backbone\n",
    )
    said = "cannot be chatted about: leave out all options but --image and --device\n"
    assert generate("--compare --image x.jpg one")[2] == f"zia: an image {said}"
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    assert generate("--seed 3 one")[2] == f"zia: toy {said}"


MINE = ("--backbone", "a/model", "--adapter", "mine=x/y")


def test_adapters_without_a_run(generate: Generate, terminal: Callable[..., Terminal]) -> None:
    assert generate("--seed 3", stdin=b"one\n", of=MINE)[:2] == (0, "mine#3()one\n\n")
    assert generate(stdin=b"", of=MINE)[:2] == (0, "")
    assert generate(stdin=b"one\n", of=MINE[:2])[1] == "None#0()one\n\n"
    table = generate("", "one", of=MINE)[1]
    assert "None#0()one" in table
    assert "mine#0()one" in table
    chat = terminal("--template", "chat", of=MINE)
    assert chat.ask("one") == "mine#0()one"
    assert chat.ask("/adapter") == "adapter mine; there are mine, none"


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ((), "give a finished run folder, or a model with --backbone"),
        (("runs/x", "--template", "chat"), "a run has its own template: leave --template out"),
        ((*MINE, "--image", "x.jpg"), "--image needs a run whose method sees images"),
        ((*MINE[:2], "--compare"), "nothing to compare: give adapters with --adapter"),
    ],
)
def test_what_needs_a_run_is_one_sentence(
    generate: Generate, of: tuple[str, ...], said: str
) -> None:
    code, _, err = generate(stdin=b"one\n", of=of)
    assert code == 1
    assert err.startswith(f"zia: {said}")
    assert err.count("\n") == 1


def test_sampling_is_at_temperature_one_by_default(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def answer(self: object, turns: object, prompt: str, adapters: object, decoding: object,
               show: object) -> None:  # fmt: skip
        seen.append(decoding.temperature)  # type: ignore[attr-defined]

    monkeypatch.setattr(chat_toy.ToyChat, "answer", answer)
    for line in ("--seed 3", "--top-p 0.5", "--top-k 5", "--top-k 5 --temperature 0"):
        generate(f"{line} one")
    assert seen == [0, 1, 1, 0]


def test_answers_made_together_are_shown_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    shown = InOrder([None, "a"], labelled=True)
    seen = []
    for adapter, piece, last in [
        ("a", "x", False), (None, "1", False), ("a", "y", True), (None, "2", True),
    ]:  # fmt: skip
        shown(adapter, piece, last)
        seen.append(capsys.readouterr().out)
    assert seen == ["[backbone]\n", "1", "", "2\n[a]\nxy\n"]
    assert shown.texts == {None: "12", "a": "xy"}


def test_a_reader_who_has_enough_ends_it(run: Path, repository: Path) -> None:
    zia = subprocess.Popen(
        [sys.executable, str(SCRIPT), "generate", str(run), "--device", "cpu", "--seed", "1"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert zia.stdin is not None
    assert zia.stdout is not None
    zia.stdin.write(b"one\n")
    zia.stdin.flush()
    # Answered before the next line is there.
    assert zia.stdout.readline() == b"run#1()one\n"
    assert zia.stdout.readline() == b"\n"
    zia.stdout.close()
    zia.stdin.write(b"two\nthree\n")
    zia.stdin.flush()  # and left open: it would wait for more
    assert zia.wait(timeout=60) == 128 + signal.SIGPIPE
    zia.stdin.close()
