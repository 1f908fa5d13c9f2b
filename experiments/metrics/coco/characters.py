"""Classify characters as CoreNLP's tokenizer does: letter, digit, mark, symbol or nothing.

`ptb_characters.json` was made by giving the Java program each character of Unicode's first plane in
a few contexts. The classes are neither Unicode's general categories nor those of `re`: the program
predates many scripts and drops everything beyond the first plane (emoji), as well as flags,
direction marks, variation selectors and Roman numerals.
"""

import json
import re
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("ptb_characters.json")
SOFT_HYPHEN = "\xad"  # part of the word or number around it, but not written
# What invalid UTF-8 becomes: nothing to the program, a word here (README.md says why).
REPLACEMENT = 0xFFFD
NOTHING, BLANK = "\0", "\t"
# The character that represents each kind. Digits are represented by ASCII's.
STANDS = {"letters": "é", "digits": "7", "marks": "\u0301", "symbols": "§", "raised": "²"}
# Small kinds, by their representative: quotes, dashes, ellipses, hyphens, separators in numbers,
# the fraction slash, the ideographic comma, spaces. Some are Windows-1252's, read as Latin-1.
FEW = {
    "\u2018": "\x91\u201b",
    "\u2019": "\x92",
    "\u201c": "\x93\xab",
    "\u201d": "\x94\xbb",
    "\u201e": "\u201a\u201f",
    "\u2039": "",
    "\u203a": "",
    "\u2014": "\x96\x97\u2013\u2015",
    "\u2026": "\x85",
    "\u2010": "\u058a\u2011",
    "\u066b": "\u066c",
    "\u2044": "",
    "\u3001": "",
    " ": "\xa0",
    BLANK: "\n\r\v\f\u1680\u2028\u2029\u202f\u205f\u3000"
    + "".join(chr(code) for code in range(0x2000, 0x200B)),
}


def kinds(text: str) -> tuple[str, str]:
    """Return the text, and the same with every character replaced by the one of its kind.

    Both are without soft hyphens in numbers.
    """
    text = re.sub(rf"(?<=\d){SOFT_HYPHEN}+(?=\d)", "", text)
    kind = text.translate(_table())
    return text, re.sub(rf"(?<=\d){SOFT_HYPHEN}", NOTHING, kind)


class _Kinds(dict[int, str]):
    def __missing__(self, code: int) -> str:
        return chr(code) if 0x20 <= code < 0x7F else NOTHING


@cache
def _table() -> _Kinds:
    """The kinds of all characters beyond ASCII that are not nothing, by code point."""
    found = _Kinds()
    for name, ranges in json.loads(TABLE.read_text("ascii")).items():
        for text in ranges.split():
            first, _, last = text.partition("-")
            codes = range(int(first, 16), int(last or first, 16) + 1)
            found.update(dict.fromkeys(codes, STANDS[name]))
    found[ord(SOFT_HYPHEN)] = SOFT_HYPHEN
    found[REPLACEMENT] = STANDS["symbols"]
    for stands, others in FEW.items():
        found.update(dict.fromkeys(map(ord, stands + others), stands))
    return found
