"""The Penn Treebank tokens that the official caption scores are computed on, in Python.

The official scorer (pycocoevalcap) calls a Java program, the tokenizer of Stanford CoreNLP 3.4.1,
with `-preserveLines -lowerCase`, and drops the tokens of `PUNCTUATION`. The rules below were
written from what that program does with captions; README.md says how far they agree with it.
"""

import re

# In lower case the brackets read -lrb- and -rrb-, which the official list, in upper case, does not
# hold: brackets count as words, there and here.
BRACKETS = "-LRB-", "-RRB-", "-LCB-", "-RCB-"
PUNCTUATION = {*BRACKETS, "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
WRITTEN = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    # What holds a space is still one token.
    | {" ": "\xa0", "£": "#", "€": "$", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4"}
)
QUOTES = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
DASHES = {"\u2013": "--", "\u2014": "--"}
TYPESET = str.maketrans(QUOTES | DASHES | {"\u2026": "...", "\u200b": " "})
NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", '"': "''"}

# Abbreviations keep their full stop: these always, the second kind in capitals only (the names of
# states that are also words), the third only before a number.
ABBREVIATIONS = (
    "adm al alex apr ariz assn attys? aug ave bhd bldg blvd bros calif capt cf cie cmdr "
    "col colo conn corp cos? cpl ct dak dec dept drs? elec esq est etc feb fla fri ft ga gen gov "
    "hon inc ind intl invt jan jos jr jul jun kans? ky lt ltd maj mar md messrs mfg mich minn mlle "
    "mme mo mon mont mrs? ms mt natl neb nev nov oct okla penn ph plc pres prof pty pvt rd rep rev "
    "sen sept? sgt sq sr ste? supts? sys tel tenn thu thurs tues? univ va vs vt wed wisc? wm wyo"
).replace(" ", "|")
STATES = "Az|Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
NUMBERED = "art|ca|figs?|nos?|pp|prop"
# A single letter keeps its full stop as well ("W. Main"), but not where a sentence seems to end.
STARTS = (
    "A|About|Additionally|After|An|As|At|But|He|Her|Here|If|In|It|Last|Many|More|Mr|Now|Once|One|"
    "Other|Our|She|So|Some|Such|That|The|Their|Then|There|These|They|This|We|What|When|While|You"
)

LETTER = r"[^\W\d_²³¹⁰⁴-⁹₀-₉½¼¾]"
WORD = rf"(?:{LETTER}|\d)+"
NUMBER = r"\d+(?:[.,:]\d+)+"
TOKEN = re.compile(
    rf"""
      # tags, addresses, and what else is full of punctuation
      </?[a-z][\w:.-]*(?:\ +[a-z][\w:.-]*(?:\ *=\ *(?:"[^"]*"|'[^']*'|[\w:.-]+))?)*\ */?> | <![^>]*>
    | https?://[^\s"<>|()]*[^\s"<>|().,;:?!'-]
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)* | [@\#][a-z_]+
    | \(\d{{3}}\)\ ?\d{{3}}[\ -]\d{{4}}
    | [:;=]['o-]?[()dp](?!\w) | &(?:amp|lt|gt|quot);
      # numbers: dates, fractions with or without a whole part, decimals and times
    | \d{{1,2}}[/-]\d{{1,2}}[/-]\d{{2,4}}(?!\d) | \d{{1,4}}/\d{{1,4}}(?:-{WORD})+
    | (?:\d{{1,4}}[\ -])?\d{{1,4}}/\d{{1,4}}(?!\d)
    | {NUMBER}(?:-{WORD})+ | [+-]?{NUMBER} | [+-]\d+ | '\d0s
      # contractions: the parts of one word are tokens of their own
    | can(?=not\b) | gon(?=na\b) | got(?=ta\b) | wan(?=na\b) | gim(?=me\b) | lem(?=me\b)
    | 't(?=is\b|was\b) | {LETTER}+(?=n't\b) | n't\b | '(?:s|m|d|re|ve|ll)\b
      # words with an apostrophe inside
    | o'clock\b | (?:[cdjlno]|qu)'{LETTER}{{2,}} | c'mon\b | s'mores\b | li'l\b | y'(?=\w)
    | '(?:n'|em|cause) | {LETTER}*[aeiouy]'[aeiou]{LETTER}*
      # words with full stops: U.S., St., W., end.of
    | (?:{LETTER}+-)*{LETTER}(?:\.{LETTER})+\b\.?(?:-{WORD})*
    | (?:{ABBREVIATIONS}|(?-i:{STATES})|(?:{NUMBERED})(?=\.\ *\d))\.(?!\w)
    | {LETTER}\.(?!\ *$|\ +(?-i:{STARTS})\b|{LETTER})
    | {LETTER}(?:{WORD})?(?:[.!?]{LETTER}(?:{WORD})?)+
      # words with other marks
    | c\+\+ | [cf]\# | w/o\b | (?-i:[A-Z]+(?:&[A-Z]+)+) | (?:[ac]|us|nz|hk)\$(?=\d)
    | {WORD}(?:-{WORD})*(?:/{WORD}(?:-{WORD})*){{1,2}} | {WORD}(?:(?:-|_+){WORD})*
      # and marks by themselves
    | -{{5,}} | --+ | \.+ | [!?]{{2,}} | _+ | \*+ | \#+ | <<|>> | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenize(caption: str) -> str:
    """Return the caption's tokens, in lower case and without punctuation, joined by spaces."""
    text = re.sub(r"\s", " ", caption.translate(TYPESET))
    tokens = (_written(token) for token in TOKEN.findall(text))
    return " ".join(token for token in tokens if token not in PUNCTUATION)


def _written(token: str) -> str:
    """A token as CoreNLP writes it, in lower case."""
    if re.fullmatch(r"-{2,4}|\.+", token):
        return "--" if token[0] == "-" else "..."
    return NAMED.get(token) or token.translate(WRITTEN).lower()
