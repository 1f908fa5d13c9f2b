"""Tokenize captions as the official scorer does, in Python: Penn Treebank tokens.

The official scorer (pycocoevalcap) calls a Java program, the tokenizer of Stanford CoreNLP 3.4.1,
with `-preserveLines -lowerCase`, and drops the tokens of `PUNCTUATION`. The rules below were
written from that program's behaviour; README.md says how closely they agree.

It treats characters beyond ASCII in a few ways. The rules apply to a text of the same length, in
which each of them is replaced by a representative of its kind (`characters.py`).
"""

import re

from experiments.metrics.coco.characters import SOFT_HYPHEN, kinds

# In lower case the brackets read -lrb- and -rrb-, which are not in the official list, in upper
# case: brackets count as words, there and here.
BRACKETS = "-LRB-", "-RRB-", "-LCB-", "-RCB-"
PUNCTUATION = {*BRACKETS, "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
WRITTEN = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    # These may contain spaces.
    | {" ": "\xa0", "£": "#", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4"}
    | {"⅓": "1/3", "⅔": "2/3"}
    | dict.fromkeys("\x80¤₠€", "$")
)
APOSTROPHES = {"\u2018": "`", "\u2019": "'"}
CONTRACTED = re.compile(r"[\u2018\u2019](?:s|m|d|re|ve|ll)|n[\u2018\u2019]t", re.IGNORECASE)
# Typeset quotes vanish, even two as one token, which is a word to Java.
QUOTES = set("\u2018\u2019\u201c\u201d\u2039\u203a")
# Not brackets: those of emoticons, tags and addresses.
NO_BRACKETS = re.compile(r"[<>]?[:;=]['o-]?[\[\]{]|<.*>|https?://.*|.*@.*", re.IGNORECASE)
NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", '"': "''"}
NAMED |= {"\u2026": "...", "\u2014": "--", "&mdash;": "--", "&ndash;": "--", "&nbsp;": "'"}

# Abbreviations keep their full stop: the first kind always, the second even before letters, the
# third only in capitals (states whose names are also words), the last only before a number.
ABBREVIATIONS = (
    "al apr ariz assn aug bhd bldg blvd bros calif colo conn corp cos? ct dak dec esq est etc feb "
    "fla fri ga inc ind intl jan jr jul jun kans? ky ltd mar md mich minn mo mon mont neb nev nov "
    "oct okla penn plc pty rd sept? sq sr sys tel tenn thu thurs tues? univ va vt wed wisc? wyo"
).replace(" ", "|")
TITLES = (
    "adm alex attys? ave capt cf cie cmdr col cpl dept drs? elec ft gen gov hon invt jos lt maj "
    "messrs mfg mlle mme mrs? ms mt natl ph pres prof pvt rep rev sen sgt ste? sups? supts? vs wm"
).replace(" ", "|")
STATES = "Az|Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
NUMBERED = "art|ca|figs?|nos?|pp|prop"
# So does a single letter ("W. Main"), unless a sentence seems to end there.
STARTS = (
    "A|About|Additionally|After|An|As|At|But|He|Her|Here|If|In|It|Last|Many|More|Mr|Now|Once|One|"
    "Other|Our|She|So|Some|Such|That|The|Their|Then|There|These|They|This|We|What|When|While|You"
)

# Kinds: é letters, \u0301 marks, ² raised digits, \u2010 hyphens, \u066b separators, \0 nothing.
LETTER, IN_WORD = "[a-zé]", r"[a-zé\u0301\d\xad]"
NAMES, ASCII = r"[a-zé\d\xad]", r"[a-z\d]"
END = rf"(?!{IN_WORD}|_)"
ALONE = rf"(?!{IN_WORD}|_|-{NAMES})"
WORD = rf"[a-zé\u0301\xad]{IN_WORD}*"
CLOSE, EITHER, HYPHEN = r"['\u2019]", r"['\u2018\u2019]", r"[-\u2010]"
NUMBER = r"\d*(?:[.,:\u066b]\d+)+"
ADDRESS = r"""[^\s\0"<>|()]*[^\s\0"<>|().,;:?!'\u2019-]"""
TOKEN = re.compile(
    rf"""
      # tags, addresses, and what else is full of punctuation
      </?[a-z][\w:.-]*(?:\ +[a-z][\w:.-]*(?:\ *=\ *(?:"[^"]*"|'[^']*'|[\w:.-]+))?)*\ */?> | <![^>]*>
    | https?://(?=[^\s\0"<>|()/]+[./]){ADDRESS}/? | [a-z\d][^\s\0"<>|()@]{{0,63}}@+{ADDRESS}
    | @[a-z_][a-z_\d]* | \#[a-zé\u0301]+
    | \(\d{{3}}\)\ ?\d{{3}}[\ -]\d{{4}}
    | &(?:amp|lt|gt|quot|apos|nbsp|[mn]dash|[aeiou](?:acute|grave|uml)|\#\d+);
    | \^_\^ | -_- | >_<
      # numbers: dates, fractions with or without a whole part, decimals and times
    | \d{{1,2}}[/-]\d{{1,2}}[/-]\d{{2,4}}(?!\d) | \d{{1,4}}/\d{{1,4}}(?:{HYPHEN}{NAMES}+)+
    | (?:\d{{1,4}}[\ -])?\d{{1,4}}[/\u2044]\d{{1,4}}(?!\d|[a-z]|/[a-z\d])
    | {NUMBER}(?:{HYPHEN}{NAMES}+)+ | [+-]?{NUMBER} | [+-]\d+
    | {CLOSE}(?:[1-9]0s|\d\d(?!\S))
    | [<>]?[:;=]['o-]?[()\[\]{{@]{END} | [<>]?[:;=]['o-]?(?:[dp]|(?-i:O)){END}
      # contractions: the parts of one word are tokens of their own
    | can(?=not{ALONE}) | gon(?=na{ALONE}) | got(?=ta{ALONE}) | wan(?=na{ALONE})
    | gim(?=me{ALONE}) | lem(?=me{ALONE}) | 't(?=is{END}|was{END})
    | [a-z\xad]+(?=n{EITHER}t) | n{EITHER}t(?!{LETTER})
    | (?-i:[A-HJ-XZ]){EITHER}{LETTER}{{2,}}
    | '(?:s|m|d|re|ve|ll)(?![a-z]) | \u2019(?:s|m|d|re|ve|ll)
      # words with an apostrophe inside, before or behind
    | o{EITHER}clock{END} | (?:[dlno]|qu){EITHER}{LETTER}{{2,}} | c{CLOSE}(?:mon|est){END}
    | s'mores{END} | j{CLOSE}ai(?:me)?{END} | li{CLOSE}l{END} | cap'n{END} | nor'easter{END}
    | (?:dunkin|somethin|ol){CLOSE}{END} | {CLOSE}til{END}
    | [yldj]{CLOSE}(?={LETTER}) | qu{CLOSE}{LETTER}
    | {CLOSE}(?:n{CLOSE}|em|cause) | 'n{END} | \u2019n | [a-z]+[aeiouy]{EITHER}[aeiou]{LETTER}*
    | [aeiouy]{EITHER}[aeiou]{LETTER}+
      # words with full stops: U.S., St., W., end.of; with a comma where a hyphen follows
    | {ASCII}+(?:(?:\.|\.?,){ASCII}+){{1,20}}(?:-{ASCII}+)+
    | ph\.d\.?{END}
    | (?:[a-z]+-)+[a-z](?:\.[a-z])+\.{END}(?:-{ASCII}+)*
    | [a-z](?:\.[a-z])+{END}(?!\.(?:[a-z]{IN_WORD}|[é\u0301\xad]))\.?(?:-{ASCII}+)*
    | (?:{ABBREVIATIONS}|(?-i:{STATES})|(?:{NUMBERED})(?=\.\ *\d))\.
    | (?:{TITLES})\.(?![a-zé\u0301])(?:-{ASCII}+)*
    | [a-z]+\.(?:-{ASCII}+)+ | [a-z]\.(?!\ *$|\s+(?-i:{STARTS})\b|[a-zé\u0301])
    | (?:{NAMES}+(?:(?:_|{HYPHEN}){NAMES}+)+|{WORD}(?:[.!?]{WORD})*|\d{NAMES}*)\.(?=[,;:\u3001])
    | {WORD}(?:[.!?]{WORD})+
      # words with other marks
    | c\+\+ | [cf]\# | w/o{END} | (?-i:[A-Z]+(?:[&+][A-Z]+)+) | (?-i:[A-Z]+\$)
    | [a-z\d]+(?:-[a-z\d]+)*(?:/[a-z\d]+(?:-[a-z\d]+)*){{1,2}}
    | {NAMES}+(?:(?:_|{HYPHEN}){NAMES}+)+ | {WORD} | \d{NAMES}*
      # and marks by themselves
    | -{{5,}} | --+ | \.{{3,}} | \.(?=\.\d) | \.+ | [!?]{{2,}} | _+ | \*+ | \#+ | @+ | ²+
    | \u201e+ | << | >> | [^\s\0\u2010\u066b]
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def tokenize(caption: str) -> str:
    """The caption's tokens, in lower case and without punctuation, joined by spaces."""
    text, kind = kinds(caption)
    found = TOKEN.finditer(kind)
    tokens = (_written(text[each.start() : each.end()], each[0]) for each in found)
    return " ".join(token for token in tokens if token and token not in PUNCTUATION)


def _written(token: str, kind: str) -> str:
    """A token as CoreNLP writes it, in lower case."""
    if re.fullmatch(r"-{2,4}|\.+", token):
        return "--" if token[0] == "-" else "..."
    if named := NAMED.get(kind.lower()):
        return named
    if NO_BRACKETS.fullmatch(token):
        return token.replace(" ", "\xa0").lower()
    if set(kind) <= QUOTES:
        return ""
    if CONTRACTED.fullmatch(kind):
        token = "".join(APOSTROPHES.get(*each) for each in zip(kind, token, strict=True))
    return token.replace(SOFT_HYPHEN, "").translate(WRITTEN).lower()
