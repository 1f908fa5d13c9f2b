import json
from pathlib import Path

import pytest

from experiments.alpaca_llama.instructions import NINE_INSTRUCTIONS, Instruction, load_user_oriented
from experiments.language.alpaca_prompt import prompt_text
from zia_core.errors import ZiaError

LINE = {
    "id": "user_oriented_task_0",
    "motivation_app": "Mail",
    "instruction": "Shorten.",
    "instances": [{"input": "a\u2028b", "output": "b"}],
}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "alpaca" / "user_oriented_instructions.jsonl"
    path.parent.mkdir(exist_ok=True)
    texts = (x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_there_are_nine_different_instructions() -> None:
    assert len(NINE_INSTRUCTIONS) == 9
    assert len({each.id for each in NINE_INSTRUCTIONS}) == 9
    assert len({prompt_text(each) for each in NINE_INSTRUCTIONS}) == 9


def test_the_official_format_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    write(tmp_path, LINE)
    expected = Instruction("user_oriented_task_0", "Shorten.", "a\u2028b", "b")
    assert load_user_oriented() == [expected]


def test_the_official_file_has_252(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_DATA", str(shared_dir / "data"))
    instructions = load_user_oriented()
    assert len({each.id for each in instructions}) == 252
    assert all(each.reference for each in instructions)
    assert sum(bool(each.input) for each in instructions) == 208


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2 is not valid JSON"),
        ("", "line 2 is not valid JSON"),
        ([1], "line 2 must be a JSON object, not a list"),
        ({"instruction": "a", "instances": []}, "line 2 has no field 'id'"),
        (LINE | {"id": "x", "instances": []}, "line 2: 'instances' must be a list with one"),
        (LINE | {"id": "x", "instances": [{"input": ""}]}, "its instance has no field 'output'"),
        (LINE, "line 2: the id 'user_oriented_task_0' was used before"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: object, sentence: str
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    path = write(tmp_path, LINE, line, LINE | {"id": "last"})
    with pytest.raises(ZiaError) as caught:
        load_user_oriented()
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_absent_file_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    with pytest.raises(ZiaError, match=r"does not exist .*self-instruct.*into the folder alpaca/"):
        load_user_oriented()
