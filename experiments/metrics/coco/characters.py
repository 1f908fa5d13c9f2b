"""What CoreNLP's tokenizer takes every character for: a letter, a digit, a mark, a symbol, nothing.

`ptb_characters.json` was made by giving the Java program each character of Unicode's first plane
in a few surroundings. It is neither Unicode's general category nor what `re` takes for a letter:
the program is older than many scripts, and knows nothing beyond the first plane (emoji are dropped,
as are flags, marks of direction, signs of variation, and Roman numerals).
"""

import json
import re
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("ptb_characters.json")
SOFT_HYPHEN = "\xad"  # part of a word or a number that it divides, and not written
# What bytes that are no UTF-8 become: nothing to the program, a word here (README.md says why).
REPLACEMENT = 0xFFFD
NOTHING, BLANK = "\0", "\t"
# The character that stands for each kind. Digits are those that ASCII has, too.
STANDS = {"letters": "é", "digits": "7", "marks": "\u0301", "symbols": "§", "raised": "²"}
# Kinds of few characters, by the one that stands for them: quotes, dashes, ellipses, hyphens,
# separators in numbers, the slash of fractions, the ideographic comma, blanks. Some are
# Windows-1252's, read as Latin-1.
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
    """Return the text, and the same with a character's kind for each one; in both, no number is
    divided by soft hyphens.
    """
    text = re.sub(rf"(?<=\d){SOFT_HYPHEN}+(?=\d)", "", text)
    kind = text.translate(_table())
    return text, re.sub(rf"(?<=\d){SOFT_HYPHEN}", NOTHING, kind)


class _Kinds(dict[int, str]):
    def __missing__(self, code: int) -> str:
        return chr(code) if 0x20 <= code < 0x7F else NOTHING


@cache
def _table() -> _Kinds:
    """Every character that is no ASCII and not nothing, by its code."""
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
