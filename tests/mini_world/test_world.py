"""The world's folder, read by the loaders of the real data."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.alpaca_llama.data import load_alpaca
from experiments.coco_caption.data import load_captions
from experiments.data.files import DATA_VARIABLE
from experiments.images.task_folder import contents, load_task
from experiments.mini_world.creatures import SPLITS, known, strangers
from experiments.mini_world.drawing import PALETTE
from experiments.mini_world.exams import problems
from experiments.mini_world.image_tasks import MINI
from experiments.mini_world.instructions import instructions
from experiments.mini_world.world import SCENES, write_world
from experiments.scienceqa.data import load_problems
from experiments.squad_roberta.data import load_squad
from zia_core.errors import ZiaError

# Of all paths and bytes. If it changes, world.VERSION must change too.
DIGEST = "be5992d358bd97bb627c5fb09d896b61b86a70da9aca118d56f48c2b04411592"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("data") / "world")


@pytest.fixture
def data(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_VARIABLE, str(world))
    return world


def test_the_world_is_the_same_bytes_everywhere(world: Path) -> None:
    digest = hashlib.sha256()
    for path in sorted(path for path in world.rglob("*") if path.is_file()):
        digest.update(path.relative_to(world).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    assert digest.hexdigest() == DIGEST


def test_instructions_are_alpaca_s_and_of_creatures_of_one_split(data: Path) -> None:
    records, listed = load_alpaca(), instructions()
    assert [(r.instruction, r.input, r.output) for r in records] == [tuple(i)[:3] for i in listed]
    assert Counter(each.split for each in listed) == {"train": 1000, "val": 100, "test": 200}
    names = {split: {c.name for c in creatures} for split, creatures in known().items()}
    facts = {c.name: set(c.facts.values()) for part in known().values() for c in part}
    for each in listed:
        asked = set(re.findall(r"[A-Z][a-z]+", f"{each.instruction} {each.input}"))
        about = {name for name in asked if name in names[each.split]}
        assert about, each
        # A friend may be of any split; what is said is known of the creature that is asked about.
        assert facts[min(about)] & set(re.findall(r"\w+", each.output)) or "friend" in str(each)


def test_exams_have_every_kind_in_every_split(data: Path) -> None:
    loaded = load_problems()
    kinds = Counter(
        (p.split, "image" if p.image else "text" if p.hint else "none") for p in loaded.values()
    )
    sizes = {"train": 300, "val": 50, "test": 100}
    assert kinds == {(s, k): n for s, n in sizes.items() for k in ("image", "text", "none")}
    for problem in loaded.values():
        scored = problem.scored()
        assert scored.has_image == (problem.image is not None)
        assert scored.has_text == bool(problem.hint)
        assert len(set(problem.choices)) == len(problem.choices)
    subjects = Counter((p.split, p.record["subject"]) for p in loaded.values())
    assert len(subjects) == 9
    assert min(subjects.values()) >= 4
    # The place of the right option says nothing.
    for n in (2, 3, 4):
        places = Counter(p.answer for p in loaded.values() if len(p.choices) == n)
        assert set(places) == set(range(n))
        assert max(places.values()) < 1.25 * min(places.values())


def test_a_hint_answers_its_question_and_nothing_else_does(data: Path) -> None:
    lasting = {creature.name for part in known().values() for creature in part}
    answers: dict[str, set[str]] = {}
    for problem in load_problems().values():
        if not problem.hint:
            continue
        right = problem.choices[problem.answer]
        told = set(re.findall(r"\w+", problem.hint))
        assert told & set(problem.choices) == {right}, problem
        (name,) = set(re.findall(r"[A-Z][a-z]+", problem.question)[1:])
        assert name not in lasting
        answers.setdefault(f"{name} {problem.record['skill']}", set()).add(right)
    several = [found for found in answers.values() if len(found) > 1]
    assert len(several) > 50  # the same stranger is something else in another text


def test_a_picture_answers_its_question(data: Path) -> None:
    colours = {name: np.array(rgb) for name, rgb in PALETTE.items()}
    asked = 0
    for problem in load_problems().values():
        if problem.image is None or problem.record["skill"] != "colour":
            continue
        pixels = np.array(Image.open(problem.image)).reshape(-1, 3).astype(int)
        right = colours[problem.choices[problem.answer]]
        assert (abs(pixels - right).max(axis=1) < 20).sum() >= 8, problem.id
        asked += 1
    assert asked > 150


def test_exams_splits_share_no_creature_stranger_or_picture(data: Path) -> None:
    seen: dict[str, set[str]] = {}
    for problem in load_problems().values():
        things = set(re.findall(r"[A-Z][a-z]+", problem.question)[1:])
        if problem.image:
            things = {hashlib.sha256(problem.image.read_bytes()).hexdigest()}
        if problem.record["subject"] == "language science":
            things = {problem.choices[problem.answer]}
        for thing in things:
            seen.setdefault(thing, set()).add(problem.split)
    assert {thing for thing, splits in seen.items() if len(splits) > 1} == set()


def test_captions_are_five_a_picture_and_no_scene_is_in_two_splits(data: Path) -> None:
    splits = load_captions("coco")
    assert {name: len(part) for name, part in vars(splits).items()} == SCENES
    things: dict[frozenset[str], set[str]] = {}
    for name, part in vars(splits).items():
        for image in part:
            assert len(set(image.captions)) == 5
            found = [frozenset(re.findall(_THING, caption)) for caption in image.captions]
            assert len(set(found)) == 1, image.captions
            things.setdefault(found[0], set()).add(name)
            assert Image.open(image.image).size == (32, 32)
    assert all(len(names) == 1 for names in things.values())


_THING = r"\w+ (?:circle|square|triangle|cross|ring|diamond)"


def test_squad_has_spans_and_unanswerable_questions_of_strangers(data: Path) -> None:
    apart = strangers()
    for version, missing in (("1.1", 0), ("2.0", 1)):
        for part, paragraphs in (("train", 500), ("dev", 100)):
            questions = load_squad(version, part)
            assert len(questions) == paragraphs * (2 + missing)
            assert sum(not q.answers for q in questions) == paragraphs * missing
            allowed = apart["test"] if part == "dev" else apart["train"] + apart["val"]
            for q in questions:
                (name,) = set(re.findall(r"[A-Z][a-z]+", q.text)[1:])
                assert name in allowed
                assert name in q.context
                if not q.answers:
                    continue
                sentence = next(
                    s for s in re.split(r"(?<=\.) ", q.context) if q.answers[0].text in s
                )
                assert len(q.answers) == 1
                assert sentence.count(q.answers[0].text) == 1


@pytest.mark.parametrize("task", MINI, ids=lambda task: task.name)
def test_image_tasks_are_in_vtab_s_layout(data: Path, task: object) -> None:
    loaded = load_task(task)  # type: ignore[arg-type]
    assert contents(loaded).shared == 0
    assert {example.label for example in loaded.train} == set(range(loaded.task.classes))
    counts = Counter(example.label for example in loaded.test)
    assert len(counts) == loaded.task.classes


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ZiaError, match="mine already exists: move it away"):
        write_world(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        if self.name == "pid_splits.json":
            raise OSError(28, "No space left on device")
        return original(self, content)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ZiaError, match=r"cannot write .*: No space left on device"):
        write_world(tmp_path / "world")
    assert list(tmp_path.iterdir()) == []


def test_the_files_say_what_they_are(world: Path) -> None:
    assert json.loads((world / "squad" / "dev-v2.0.json").read_text())["version"] == "2.0"
    assert set(SPLITS) == set(json.loads((world / "scienceqa" / "pid_splits.json").read_text()))
    assert len(problems()) == 1350
