"""Stored files that are JSON, but not of the form that was written: a sentence, and no traceback.

Every value in every file of a run is replaced by values of other types, one at a time, and
everything that reads the run is asked about it.
"""

import copy
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from experiments.dispatch import active_jobs, live_view, retries, status_table
from experiments.dispatch.submission import SUBMISSION_FILE
from experiments.harness import plan, publish, seal, setting_bounds, stored
from experiments.harness.process_identity import Process
from experiments.harness.registry import experiments
from experiments.harness.stored import CONFIG, ENVIRONMENT, METRICS, PREDICTIONS, RESULT, STATUS
from experiments.harness.verify import verify_run
from experiments.report.html.browser import browse
from experiments.report.runs import read_runs, select
from tests.cli.test_main import RUNS, Zia, run_folder, zia
from tests.dispatch.test_active_jobs import local_submission
from tests.harness import toy
from zia_core.errors import ZiaError
from zia_core.validation import Record, conform, records

__all__ = ["zia"]  # a fixture

HUGE = 10**39
OTHERS: list[Any] = [None, True, "x", -1, 1.5, HUGE, [], [1], [[]], {}, {"a": 1}, ["x", {"b": []}]]


def changed(value: Any) -> Iterator[Any]:
    """Copies of a JSON value with one of its parts, or itself, of another type, or left out."""
    yield from OTHERS
    parts = value.items() if isinstance(value, dict) else []
    for key, part in enumerate(value) if isinstance(value, list) else list(parts):
        without = copy.copy(value)
        del without[key]
        yield without
        for other in changed(part):
            whole = copy.copy(value)
            whole[key] = other
            yield whole


def read_all(runs: Path) -> None:
    """Ask whatever reads run folders about them; only a ZiaError may come of it."""
    folder = runs / "toy" / toy.spec().folder_name
    status_table._tables(runs, active_jobs.ActiveJobs(runs))
    questions: list[Callable[[], object]] = [
        lambda: live_view._row(folder),
        lambda: plan.inspect(toy.spec(), runs),
        lambda: stored.load_sealed(folder, tensors=True),
        lambda: list(publish.compare([toy.spec()], runs, runs)),
        lambda: publish.check_publishable(stored.load(folder), runs),
        lambda: retries.make_pending([folder]),
        lambda: select(read_runs([runs]), "toy", ["score"]),
        lambda: browse(read_runs([runs])),
    ]
    for ask in questions:
        try:
            ask()
        except ZiaError as error:
            assert "\n" not in str(error)  # noqa: PT017
    browse(read_runs([runs], keep_going=True))  # leaves out what cannot be read
    assert all(finding.detail.count("\n") == 0 for finding in verify_run(folder))


@pytest.fixture
def done(zia: Zia, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(toy.REFERENCES, "1")
    assert zia("run toy").code == 0
    return run_folder()


@pytest.mark.parametrize("name", [CONFIG, STATUS, ENVIRONMENT, RESULT])
def test_a_file_of_another_form_is_a_sentence_for_every_reader(done: Path, name: str) -> None:
    value = json.loads((done / name).read_text())
    if name == ENVIRONMENT:
        value["packages"] = {"torch": "2"}
        value |= {"data": {"a": "1"}, "weights": {"w": "2"}}
    if name == STATUS:
        value["attempts"] = value["attempts"][:1]
    for other in changed(value):
        (done / name).write_text(json.dumps(other))
        seal.write(done)  # so that nobody stops at the edit as such
        read_all(RUNS)


@pytest.mark.parametrize("name", [METRICS, stored.TIMING])
def test_a_line_of_another_form_is_named(done: Path, name: str) -> None:
    line = {"step": 7, "loss": 1.5, "eval": {"val_loss": 1.0}, "gates": {"0": [0.5]}, "seconds": 1}
    before = (done / name).read_text()
    for other in changed(line):
        (done / name).write_text(before + json.dumps(other) + "\n")
        seal.write(done)
        read_all(RUNS)
    for text in ("[1]", "NaN", '{"step": NaN}', "9" * 5000, "[" * 100_000, '{"step": 1', '"x"'):
        (done / name).write_text(before + text + "\n")
        with pytest.raises(ZiaError, match=rf"{name}, line {before.count(chr(10)) + 1} "):
            (stored.metrics if name == METRICS else stored.timing)(done)


def test_a_prediction_of_another_form_is_named(done: Path) -> None:
    def write(text: str) -> None:
        (done / PREDICTIONS).write_bytes(gzip.compress(text.encode()))
        seal.write(done)

    for other in changed({"id": 0, "output": 1}):
        write(json.dumps({"id": 1, "output": 2}) + "\n" + json.dumps(other) + "\n")
        read_all(RUNS)
    for text in ("[1]", "NaN", "9" * 5000, "[" * 100_000, "{", "\n"):
        write('{"id":1,"output":2}\n' + text + "\n")
        with pytest.raises(ZiaError, match=rf"{PREDICTIONS}, line 2 "):
            stored.load(done).predictions()
    write('{"id":1}\n')
    (record,) = stored.load(done).predictions()
    with pytest.raises(ZiaError, match=rf"{PREDICTIONS}, line 1 has no 'output'"):
        _ = record["output"]
    with pytest.raises(ZiaError, match=rf"{PREDICTIONS}, line 1: id must be a text, not 1"):
        stored.load(done).predictions({"id": str})


def test_a_submission_of_another_form_is_a_sentence(tmp_path: Path) -> None:
    submitted = local_submission(tmp_path, Process.current())
    path = submitted.folder / SUBMISSION_FILE
    for other in changed(json.loads(path.read_text())):
        path.write_text(json.dumps(other))
        try:
            active_jobs.active_submissions(tmp_path, [])
        except ZiaError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_the_record_of_an_owner_of_another_form_is_an_owner_that_is_gone_or_not(
    done: Path,
) -> None:
    path = done / "owner" / "000001.json"
    for other in changed(json.loads(path.read_text())):
        path.write_text(json.dumps(other))
        read_all(RUNS)


@pytest.mark.parametrize("file", [CONFIG, STATUS, ENVIRONMENT, RESULT])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": NaN}', "[1]"])
def test_status_names_the_file_and_shows_the_other_runs(
    zia: Zia, done: Path, file: str, text: str
) -> None:
    zia("run toy --seed 1")
    (done / file).write_text(text)
    code, out, err = zia("status")
    assert code == 1
    assert "add sum s1" in " ".join(out.split())
    assert f"{done / file}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("threads=0", "setting threads must be between 1 and 1,024, not 0"),
        ("threads=100000000", "setting threads must be between 1 and 1,024, not 100000000"),
        ("batch_size=0", "setting batch_size must be between 1 and 1,000,000,000, not 0"),
        ("token_budget=-1", "setting token_budget must be between"),
        ("loss_chunk=0", "setting loss_chunk must be between 1 and"),
        ("lora_dropout=1.5", "setting lora_dropout must be between 0 and 1, not 1.5"),
        ("epochs=1e308", "setting epochs must be between 0 and 1,000,000, not 1e+308"),
        ("peak_lr=-1", "setting peak_lr must be at least 0, not -1.0"),
        (f"prompt_length={'9' * 4000}", "setting prompt_length must be between"),
        (f"prompt_length={'9' * 5000}", "setting prompt_length must be a whole number"),
        (f"epochs={'9' * 4000}", "setting epochs must be a finite number"),
    ],
)
def test_a_setting_that_no_run_can_have_is_refused_where_it_is_typed(
    zia: Zia, monkeypatch: pytest.MonkeyPatch, setting: str, said: str
) -> None:
    monkeypatch.undo()
    from experiments.harness import plan as planning

    name, _, value = setting.partition("=")
    with pytest.raises(ZiaError, match=re.escape(said)):
        planning.choose("alpaca_llama", "mini", "cpu", settings={name: value})


def test_every_number_among_the_settings_has_bounds() -> None:
    anything = {"selection_seed", "gate_init", "lora_alpha"}
    kinds = {int, float, int | None, float | None}
    for experiment in experiments().values():
        hints = get_type_hints(experiment.settings)
        numbers = {name for name, kind in hints.items() if kind in kinds}
        assert numbers - anything <= setting_bounds.BOUNDS.keys(), experiment.name


@pytest.mark.parametrize("option", ["--threads 100000000", "--workers 100000000", "--threads 0"])
def test_so_is_a_number_of_threads_or_workers(zia: Zia, option: str) -> None:
    code, _, err = zia(f"reproduce toy --executor local {option}")
    assert code == 2
    assert err.startswith("zia: Invalid value for '--")


def test_kinds_say_where_and_what(tmp_path: Path) -> None:
    assert conform(dict[str, list[int]], {"a": [1]}, "x") == {"a": [1]}
    assert conform(int | str | None, None, "x") is None
    for kind, value, said in (
        (dict[str, list[int]], {"a": [1, "b"]}, r"x.a\[1\] must be a whole number, not 'b'"),
        (dict[str, int], [1], "x must be an object with a whole number for each name, not"),
        (list[str], "abc", "x must be a list of a text, not 'abc'"),
        (int | str, 1.5, "x must be a whole number or a text, not 1.5"),
        (float, 10**400, "x must be a finite number, not 1000"),
        (dict, [1], r"x must be an object, not \[1\]"),
    ):
        with pytest.raises(ZiaError, match=said):
            conform(kind, value, "x")
    (line,) = records([{"a": 1}], {"a": float, "b": str}, tmp_path / "f.jsonl")
    assert type(line["a"]) is int  # as it stands in the file
    with pytest.raises(ZiaError, match=r"f.jsonl, line 1 has no 'b'"):
        _ = line["b"]
    with pytest.raises(ZiaError, match=r"f.jsonl has no 'b'"):
        _ = Record({}, tmp_path / "f.jsonl")["b"]


@pytest.mark.parametrize("pid", [-1, 0, 2**31])
def test_a_process_group_is_not_a_worker(tmp_path: Path, pid: int) -> None:
    """A signal to -1 goes to everything that the user has."""
    submitted = local_submission(tmp_path, Process(pid, None, None, None))
    with pytest.raises(ZiaError, match=rf"{SUBMISSION_FILE}: pid {pid} is not a process"):
        active_jobs.active_submissions(tmp_path, [])
    assert submitted.folder.is_dir()
