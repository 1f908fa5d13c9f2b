"""The tokenizer, against the output of CoreNLP 3.4.1."""

import gzip
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.metrics.coco.ptb import tokenize

# Each right side is the Java program's own output, without the tokens of the official list.
BY_JAVA = {
    "A man riding a wave on top of a surfboard.": "a man riding a wave on top of a surfboard",
    'The sign says "STOP!!!" ok??? wow!': "the sign says stop !!! ok ??? wow",
    # contractions
    "it's don't can't won't ain't cant": "it 's do n't ca n't wo n't ai n't cant",
    "cannot gonna wanna gotta 'tis": "can not gon na wan na got ta 't is",
    "hadn't've I'd've HE'S y'know": "had n't 've i 'd 've he 's y' know",
    "dogs' toys, 'single quoted', dog's": "dogs toys single quoted dog 's",
    "o'clock o'brien hors d'oeuvres": "o'clock o'brien hors d'oeuvres",
    "rock'n'roll 'em s'mores li'l pe'e": "rock 'n' roll 'em s'mores li'l pe'e",
    # full stops
    "U.S. army. U.S.A. a.m. J.R.R. Tolkien": "u.s. army u.s.a. a.m. j.r.r. tolkien",
    "corner of W. Centre St. and 12th Ave.": "corner of w. centre st. and 12th ave.",
    "A sign on Crapo St.": "a sign on crapo st.",
    "operating a car wash.": "operating a car wash",
    "A person I. A hood": "a person i a hood",
    "Dr. No. No. 8, all of us.": "dr. no no. 8 all of us",
    "walk on the ground.a man wings.l": "walk on the ground.a man wings.l",
    "stop.. go.... wait . . . end": "stop go wait end",
    "foo.jpg www.foo.com foo@bar.com http://foo.com/a?b=c.": (
        "foo.jpg www.foo.com foo@bar.com http://foo.com/a?b=c"
    ),
    # numbers
    "3.5mm 5:54pm 5pm 12th 1,000.50 10:30:45": "3.5 mm 5:54 pm 5pm 12th 1,000.50 10:30:45",
    "1/2 1 1/2 2-1/2 1/2-inch 5/14/2021": "1/2 1\xa01/2 2-1/2 1/2-inch 5/14/2021",
    "1970's '70s 70's 1.a -5": "1970 's '70s 70 's 1 a -5",
    "$5.00 £5 5% 5¢ #1 90° ½": "$ 5.00 # 5 5 % 5 cents # 1 90 ° 1/2",
    "6'2\" man, 5 ft. tall, 5ft. tall": "6 2 man 5 ft. tall 5ft tall",
    # hyphens, slashes, marks
    "snow-packed 5-year-old a- -b": "snow-packed 5-year-old a b",
    "one...two one--two one\u2014two it\u2019s \u201cx\u201d": "one two one two one two it 's x",
    "and/or a/b/c/d w/o w/ Coca-Cola/Pepsi": "and/or a/b/c / d w/o w / coca-cola/pepsi",
    "AT&T at&t b&w R & B &amp;": "at&t at & t b & w r & b &",
    "*star* **bold** x_y __x__ c++": "* star * ** bold ** x_y __ x __ c++",
    "#fun @home cat&dog": "#fun @home cat & dog",
    # brackets count: the official list has their names in upper case only
    "(a) [b] {c} <d> < g > :)": "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb- <d> < g > :-rrb-",
    "café crème H₂O cm²": "café crème h ₂ o cm ²",
    "": "",
    " . , ; ": "",
    "two\nlines": "two lines",
}


@pytest.mark.parametrize(("caption", "tokens"), BY_JAVA.items())
def test_tokens_are_those_of_the_java_program(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens


# Texts of our own and the Java program's output; `differ` where ours is known to be different.
# `planes`: by the upper byte of code points, a digest of its tokens for all characters, one a line.
PROBES = json.loads(Path(__file__).with_name("ptb_probes.json").read_text("ascii"))


def test_texts_with_all_kinds_of_characters_have_java_s_tokens() -> None:
    assert len(PROBES["agree"]) > 1_600
    found = {text: tokenize(text) for text in PROBES["agree"]}
    assert found == PROBES["agree"]


def test_what_is_said_to_differ_does() -> None:
    """README.md lists them by kind; texts that agree belong to the others."""
    assert [text for text, java in PROBES["differ"].items() if tokenize(text) == java] == []


@pytest.mark.parametrize("upper", [*range(0x30), *range(0x30, 0x100, 12)])
def test_each_character_is_what_java_takes_it_for(upper: int) -> None:
    digest = hashlib.sha256()
    for code in range(upper << 8, upper + 1 << 8):
        # Not: line ends and surrogates, private characters, and the replacement character.
        if code > 0x20 and code not in (0x85, 0x2028, 0x2029) and not 0xD800 <= code < 0xF900:
            line = f"a{chr(code)}b 1{chr(code)}2 {chr(code)} x"
            digest.update(f"{tokenize(line)}\n".encode())
    if not 0xD8 <= upper < 0xF9:
        assert digest.hexdigest()[:12] == PROBES["planes"][f"{upper:02x}"]


def test_characters_beyond_the_first_plane_are_nothing() -> None:
    for code in (0x10000, 0x1D400, 0x1F600, 0x1F1EB, 0x20000, 0xE0067, 0x10FFFF):
        assert tokenize(f"a{chr(code)}b {chr(code)} x") == "a b x"


@pytest.mark.parametrize("text", ["a", "a,", "a'", "a/", "A&", "1,", "a@", "\xad", "a-", ". "])
def test_a_text_of_any_kind_takes_no_long_time(text: str) -> None:
    started = time.process_time()
    tokenize(text * 5_000)
    assert time.process_time() - started < 5


def test_a_letter_that_ends_the_caption_ends_a_sentence() -> None:
    # Java keeps "k." or drops the full stop depending on the next line; here there is none.
    assert tokenize("A sign that reads K.") == "a sign that reads k"
    assert tokenize('the letter "P."') == "the letter p."


def test_every_given_line_has_the_given_java_tokens(shared_dir: Path) -> None:
    def load(name: str) -> Any:
        return json.loads(gzip.decompress((shared_dir / "data/coco" / name).read_bytes()))

    expected = load("ptb_tokenized_fakecap126.json.gz")
    lines: dict[str, list[str]] = {name: [] for name in expected}
    for annotation in load("captions_val2017.json.gz")["annotations"]:
        if (name := str(annotation["image_id"])) in lines:
            lines[name].append(annotation["caption"])
    for result in load("fakecap_val2014_in_val2017_results.json.gz"):
        lines[str(result["image_id"])].append(result["caption"])
    pairs = [
        (line, tokens)
        for name, given in expected.items()
        for line, tokens in zip(lines[name], [*given["refs"], given["hyp"]], strict=True)
    ]
    assert len(pairs) == 757
    differing = [(line, tokenize(line), java) for line, java in pairs if tokenize(line) != java]
    assert differing == []  # otherwise to be listed and explained
