"""The texts that backbones are trained on, and those that are held out."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping

from experiments.language.alpaca_prompt import PROMPT_INPUT, PROMPT_NO_INPUT
from experiments.mini_world.creatures import KNOWN, STRANGERS, known, strangers
from experiments.mini_world.dice import Dice
from experiments.mini_world.documents import ENCODER, Library
from experiments.mini_world.instructions import instructions
from experiments.mini_world.phrases import (
    ANSWERS,
    HELD_OUT_STATEMENTS,
    QUESTIONS,
    SHORT_ANSWERS,
    STATEMENTS,
)
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.mini_world.words import ATTRIBUTES, LETTERS, VALUES
from experiments.pretrain.llama.task import STAGES

LIBRARY = Library(0)
DOCUMENTS = [LIBRARY.document(i) for i in range(4000)]


def test_a_document_is_a_function_of_seed_and_number() -> None:
    assert Library(0).document(17) == DOCUMENTS[17] != Library(1).document(17)
    # The same on every machine: the first draws of a stream, by hand from random.Random("a/1").
    dice = Dice("a", 1)
    assert [dice.below(1000) for _ in range(3)] == [331, 885, 783]


def test_no_document_has_a_held_out_statement() -> None:
    text = " ".join(DOCUMENTS)
    for attribute in ATTRIBUTES:
        for form in HELD_OUT_STATEMENTS[attribute]:
            assert not re.search(_pattern(form), text), form
        assert all(re.search(_pattern(form), text) for form in STATEMENTS[attribute])


def _pattern(form: str) -> str:
    return re.escape(form).replace(r"\{x\}", r"\w+").replace(r"\{v\}", r"\w+")


def test_no_document_has_an_experiment_s_form() -> None:
    last = list(STAGES.values())[-1]
    library = Library(last.library, last.shares, conclude=last.conclude)
    concluded = " ".join(library.document(i) for i in range(2000))
    assert "The answer is B." in concluded
    text = " ".join([*DOCUMENTS, concluded])
    forms = [PROMPT_INPUT.split(".")[0], PROMPT_NO_INPUT.split(".")[0], "Options: (A)", "Answer: "]
    assert [form for form in forms if form in text] == []
    for each in instructions():
        assert each.instruction not in text
        assert each.output.partition(":")[2] == "" or each.output not in text


def test_a_known_creature_is_the_same_in_every_article() -> None:
    library = Library(3, {"article": 1.0})
    articles = " ".join(library.document(i) for i in range(1500))
    for creature in (each for part in known().values() for each in part):
        for attribute, value in creature.facts.items():
            form = STATEMENTS[attribute][0].format(x=creature.name, v="(\\w+)")
            said = Counter(re.findall(form, articles))
            if attribute in VALUES:  # not "X is a friend", which is what a colour's form finds too
                said = Counter({word: n for word, n in said.items() if word in VALUES[attribute]})
            assert set(said) <= {value}, (creature.name, attribute)


def test_strangers_are_no_known_creatures_and_differ_from_text_to_text() -> None:
    lasting = {creature.name for part in known().values() for creature in part}
    names = [name for part in strangers().values() for name in part]
    assert len(lasting) == sum(KNOWN.values())
    assert len(set(names)) == sum(STRANGERS.values())
    assert not lasting & set(names)
    stories = " ".join(Library(0, {"story": 1.0}).document(i) for i in range(4000))
    homes = {n: set(re.findall(rf"The home of {n} is the (\w+)", stories)) for n in names}
    assert sum(len(found) > 1 for found in homes.values()) > 40


def test_an_encoder_reads_no_letters() -> None:
    library = Library(0, ENCODER)
    assert not any("(A)" in library.document(i) for i in range(500))
    assert any("(A)" in document for document in DOCUMENTS)


def test_every_form_has_its_places_and_ends_where_recall_asks() -> None:
    for forms in (STATEMENTS, HELD_OUT_STATEMENTS):
        assert all("{x}" in f and "{v}" in f for fs in forms.values() for f in fs)
    assert all(f.endswith("{v}.") for fs in HELD_OUT_STATEMENTS.values() for f in fs)
    assert all(f.endswith("{v}.") for f in (*ANSWERS.values(), *SHORT_ANSWERS.values()))
    for table in (STATEMENTS, HELD_OUT_STATEMENTS, QUESTIONS, ANSWERS, SHORT_ANSWERS):
        assert tuple(table) == ATTRIBUTES


def test_words_are_one_token_each_and_texts_come_back() -> None:
    tokenizer = train_tokenizer(DOCUMENTS, 512)
    words = [value for values in VALUES.values() for value in values]
    words += [creature.name for part in known().values() for creature in part]
    words += [*LETTERS, "circle", "left", "opposite"]
    lengths = {word: len(tokenizer.encode(f" {word}", add_special_tokens=False)) for word in words}
    assert {word: n for word, n in lengths.items() if n > 1} == {}
    text = "What does Tudam eat?\n\n### Response: ø"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    pair = tokenizer("a", "b")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(pair) == ["<s>", "a", "</s>", "</s>", "b", "</s>"]


# Of the first documents of each library, as used for the released weights. If one changes, its
# backbone must be retrained, and so must the later stages of the language model.
READ = {
    "library": "cac428b84fedb138",
    "drills": "9c0ce299ed54d26d",
    "lessons": "209655df6eb4dc88",
    "letters": "d3ad787514ebeda1",
    "review": "5000df73eb658580",
    "conclusions": "85dd255ab2ef67ea",
}
ENCODER_READ = "e219b6fca37c857c"


def digest(seed: int, shares: Mapping[str, float], conclude: bool = False) -> str:
    library = Library(seed, shares, conclude=conclude)
    text = "\n".join(library.document(i) for i in range(500))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_libraries_are_those_of_the_released_weights() -> None:
    found = {n: digest(each.library, each.shares, each.conclude) for n, each in STAGES.items()}
    assert found == READ
    assert digest(0, ENCODER) == ENCODER_READ
