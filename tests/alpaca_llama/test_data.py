import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from experiments.alpaca_llama.data import Record, fingerprint, load_alpaca
from zia_core.errors import ZiaError

ROW = {"instruction": "Say hello.", "input": "", "output": "Hello."}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    (tmp_path / "alpaca").mkdir()
    return tmp_path / "alpaca"


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> list[Record]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIA_DATA", str(shared_dir / "data"))
        return load_alpaca()


@pytest.mark.parametrize("name", ["alpaca_data.json", "alpaca_data.json.gz"])
def test_records_are_read_in_order_plain_or_packed(folder: Path, name: str) -> None:
    rows = [ROW, {"instruction": "Übersetze.", "input": "a\u2028b", "output": ""}]
    content = json.dumps(rows, ensure_ascii=False).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert load_alpaca() == [
        Record(0, "Say hello.", "", "Hello."),
        Record(1, "Übersetze.", "a\u2028b", ""),
    ]


GOOD = gzip.compress(json.dumps([ROW] * 50).encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("alpaca_data.json.gz", GOOD[:-30], "alpaca_data.json.gz is not a complete gzip file"),
        ("alpaca_data.json.gz", b"[{}]", "alpaca_data.json.gz is not a complete gzip file"),
        ("alpaca_data.json.gz", GOOD[:30] + b"\0\0" + GOOD[32:], "not a complete gzip file"),
        ("alpaca_data.json", b"", "alpaca_data.json is empty"),
        ("alpaca_data.json.gz", gzip.compress(b" \n", mtime=0), "alpaca_data.json.gz is empty"),
        ("alpaca_data.json.gz", b"", "alpaca_data.json.gz is empty"),
        ("alpaca_data.json", b'[{"instruction": "\xff"}]', "is not UTF-8 text (byte 18)"),
        ("alpaca_data.json", b'[\n{"a": }]', "is not valid JSON (line 2, column 7"),
        ("alpaca_data.json", b'{"instruction": ""}', "must hold a list of records"),
        ("alpaca_data.json", b"[]", "must hold a list of records"),
        ("alpaca_data.json", [ROW, "text"], "record 1 must be a JSON object, not a text"),
        ("alpaca_data.json", [ROW, None], "record 1 must be a JSON object, not null"),
        ("alpaca_data.json", [ROW, {"instruction": "", "input": ""}], "no field 'output'"),
        ("alpaca_data.json", [ROW | {"output": 7}], "'output' must be a text, not a number"),
        ("alpaca_data.json", [ROW | {"input": None}], "'input' must be a text, not null"),
        ("alpaca_data.json", [ROW | {"input": "\ud800"}], "'input' is not valid Unicode"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(
    folder: Path, name: str, content: Any, sentence: str
) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(raw)
    with pytest.raises(ZiaError) as caught:
        load_alpaca()
    message = str(caught.value)
    assert sentence in message
    assert str(folder / name) in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "alpaca_data.json").mkdir()
    with pytest.raises(ZiaError, match=r"cannot read .*alpaca_data\.json: Is a directory"):
        load_alpaca()


def test_without_a_file_the_hub_s_pinned_revision_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(*arguments: str, **options: str) -> datasets.Dataset:
        asked.append((arguments, options))
        return datasets.Dataset.from_list([ROW | {"text": "..."}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    assert load_alpaca() == [Record(0, "Say hello.", "", "Hello.")]
    revision = "dce01c9b08f87459cf36a430d809084718273017"
    assert asked == [(("tatsu-lab/alpaca",), {"revision": revision, "split": "train"})]


@pytest.mark.parametrize("has_folder", [False, True])
def test_neither_data_nor_network_names_both(tmp_path: Path, has_folder: bool) -> None:
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    if has_folder:
        settings["ZIA_DATA"] = str(tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "ZIA_DATA"} | settings
    code = (
        "from experiments.alpaca_llama.data import load_alpaca\n"
        "from zia_core.errors import ZiaError\n"
        "try: load_alpaca()\n"
        "except ZiaError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "the hub's tatsu-lab/alpaca cannot be loaded" in done.stdout
    assert "put alpaca_data.json into the folder alpaca/ of $ZIA_DATA" in done.stdout
    where = f"{tmp_path}/alpaca/alpaca_data.json[.gz] does not exist" if has_folder else "not set"
    assert where in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_split_follows_from_the_question_alone() -> None:
    records = [Record(i, f"Question {i}?", "", "") for i in range(4000)]
    counts = Counter(record.split for record in records)
    assert 60 <= counts["validation"] <= 100
    assert 25 <= counts["development"] <= 55
    for record in records[:200]:
        assert replace(record, id=record.id + 7, output="other").split == record.split
    # Pinned: a change of the rule would move records from one part to another.
    assert [r.id for r in records if r.split == "validation"][:5] == [1, 51, 60, 86, 143]
    assert [r.id for r in records if r.split == "development"][:3] == [33, 81, 153]


def test_the_fingerprint_notices_text_row_and_order() -> None:
    records = [Record(0, "a", "", "b"), Record(1, "c", "d", "e")]
    others = [
        records[::-1],
        records[:1],
        [records[0], replace(records[1], id=2)],
        [records[0], replace(records[1], output="f")],
        [records[0], replace(records[1], instruction="cd", input="")],
    ]
    assert len({fingerprint(r) for r in [records, *others]}) == 6
    assert fingerprint(records) == fingerprint(list(records))


def test_official_parts_share_no_question(official: list[Record]) -> None:
    assert len(official) == 52_002
    parts: dict[str, set[tuple[str, str]]] = {}
    for record in official:
        asked = record.instruction.strip().lower(), record.input.strip().lower()
        parts.setdefault(record.split, set()).add(asked)
    sizes = {name: len(asked) for name, asked in parts.items()}
    assert sizes == {"train": 50_410, "validation": 1_068, "development": 524}
    assert len(set.union(*parts.values())) == 52_002
