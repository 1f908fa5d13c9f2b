"""Remove what identifies a machine or a person from the texts of a run before it is published.

When in doubt, remove: whatever looks like a path loses its folders, and the words that may belong
to them.
"""

import getpass
import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.harness import schema
from experiments.harness.stored import STATES

HOST_KEYS = frozenset({"host", "hostname", "node"})
SECRET_KEYS = re.compile(r"(?i)(?:.*[_-])?(?:token|password|passwd|secret|api[_-]?key)")
RECORDS = (
    *(schema.Progress, schema.Attempt, schema.Status),
    *(schema.Git, schema.Cpu, schema.Torch, schema.Environment),
)
# Field names stay, even on a host that is called `torch`.
FIELDS = {*schema.CONFIG, *schema.METRICS, *schema.TIMING}.union(
    *(record.__annotations__ for record in RECORDS)
)
VERSIONS = "packages"  # the key of values such as 13.4.1.3, which are not addresses
SHARED_NAMES = frozenset({"", "root", "user", "admin", "runner", "ubuntu", "nobody", "home"})
SECRET, USER, HOST, ADDRESS, PATH = "<secret>", "<user>", "<host>", "<address>", "<path>"

# Folders may have spaces in their names; the last part only before a capital or a bracket.
_PART = r"[^\s/\\:*?\"'<>|,;]+"
_FOLDER = rf"{_PART}(?:[ ]+{_PART})*"
_LAST = rf"(?:{_PART}(?:[ ](?=[A-Z(]){_PART})*)"
PATHS = re.compile(
    rf"(?<![\w.~/\\>])/(?!/)(?:{_FOLDER}/+)*{_LAST}/?"
    rf"|(?<!\w)(?:[A-Za-z]:|\\)[\\/](?:{_FOLDER}[\\/]+)*{_LAST}?[\\/]?"
    rf"|(?<=file://)/(?:{_FOLDER}/+)*{_LAST}?"
)
WHOLE_PATH = re.compile(r"(?:/(?!/)|[A-Za-z]:[\\/]|\\\\)[^\n]+")
HOMES = re.compile(rf"(?i)(?:/home|/users|\b[a-z]:[\\/]users)[\\/]({_FOLDER})(?=[/\\]|$)")
URLS = re.compile(r"\b(?P<scheme>[A-Za-z][\w+.-]*)://(?P<rest>[^\s\"'<>]+)")
TOKENS = re.compile(
    r"\b(?:hf_|gh[opsu]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[\w-]{15,}"
    r"|(?i:\bbearer\s+)[\w.~+/=-]{8,}"
)
ASSIGNED = re.compile(
    r"(?i)\b((?:\w*[_-])?(?:token|password|passwd|secret|api[_-]?key)\s*[=:]\s*)\S+"
)
WORD = re.compile(r"[\w-]+")
EMAILS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
ADDRESSES = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?!\w))"
)


class Scrubber:
    """Replaces what identifies a machine or a person; one instance for all runs published together.

    Hosts are numbered in the order in which they are met, so runs of one host can be told apart
    from those of others.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}
        self._by_word: dict[str, list[str]] = {}  # hosts by their first word
        self._met = 0
        self._domains: set[str] = set()
        self._users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
        self._users |= {Path.home().name, _login()}
        # The longest prefix first: data are often in the home folder.
        named = [("$ZIA_DATA", os.environ.get("ZIA_DATA")), ("~", str(Path.home()))]
        self._prefixes = sorted(
            ((path.rstrip("/\\"), name) for name, path in named if path and path != "/"),
            key=lambda pair: -len(pair[0]),
        )

    def collect(self, value: Any) -> None:
        """Remember the hosts, under a key such as `host`, and the users' homes in a JSON value."""
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in HOST_KEYS and isinstance(inner, str) and inner:
                    self._host(inner.lower())
                self.collect(inner)
                self._users |= set(HOMES.findall(key))
        elif isinstance(value, list):
            for inner in value:
                self.collect(inner)
        elif isinstance(value, str):
            self._users |= set(HOMES.findall(value))

    def scrub(self, value: Any) -> Any:
        """The JSON value and its keys without hosts, users, addresses, secrets, absolute paths."""
        return _map(value, self._text)

    def paths_out(self, value: Any) -> Any:
        """The JSON value without absolute paths; everything else stays."""
        return _map(value, self._without_paths)

    def _host(self, host: str) -> None:
        if host in self._hosts:
            return
        short, _, domain = host.partition(".")
        if "." in domain and not _is_address(host):
            self._domains.add(domain)
        self._met += short not in self._hosts
        number = self._hosts.get(short, f"host-{self._met}")
        for name in (host,) if _is_address(host) else dict.fromkeys((host, short)):
            if name not in self._hosts:
                self._hosts[name] = number
                word = WORD.match(name)
                self._by_word.setdefault(word[0] if word else "", []).append(name)

    def _hosts_in(self, text: str) -> list[str]:
        """The hosts that a text may name, longest first, without trying all of a cluster's."""
        if not text.isascii():  # case folding is not one to one there
            return sorted(self._hosts, key=len, reverse=True)
        words = {"", *WORD.findall(text.lower())}
        found = {host for word in words for host in self._by_word.get(word, ())}
        return sorted(found, key=lambda host: (-len(host), host))

    def _text(self, text: str) -> str:
        if text in STATES:
            return text
        text = URLS.sub(_without_secrets, text)
        text = ASSIGNED.sub(rf"\1{SECRET}", TOKENS.sub(SECRET, text))
        text = self._without_prefixes(text)
        text = EMAILS.sub(ADDRESS, text)
        for host in self._hosts_in(text):
            # With any domain.
            text = _replaced(text, rf"{re.escape(host)}(?:\.[A-Za-z][\w-]*)*", self._hosts[host])
        for domain in self._domains:
            text = _replaced(text, rf"(?:[\w-]+\.)*{re.escape(domain)}", HOST)
        text = ADDRESSES.sub(_address, text)
        text = _paths(text)
        for user in self._users:
            if len(user) > 2 and user.lower() not in SHARED_NAMES:
                text = _replaced(text, re.escape(user), USER)
        return text

    def _without_paths(self, text: str) -> str:
        return _paths(self._without_prefixes(text))

    def _without_prefixes(self, text: str) -> str:
        for prefix, name in self._prefixes:
            text = re.sub(rf"{re.escape(prefix)}(?![\w.-])", name, text)
        return text


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {
            key if key in FIELDS else change(key): SECRET
            if isinstance(inner, str) and SECRET_KEYS.fullmatch(key)
            else inner
            if key == VERSIONS
            else _map(inner, change)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_map(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def _replaced(text: str, pattern: str, by: str) -> str:
    return re.sub(rf"(?i)(?<![\w-]){pattern}(?![\w-])", by, text)


def _paths(text: str) -> str:
    """Cut the folders off absolute paths; a text that starts with one is one to its end."""
    if WHOLE_PATH.fullmatch(text):
        return _last(text)
    found = list(URLS.finditer(text))
    kept = [each.span() for each in found if each["scheme"].lower() in ("http", "https")]
    return PATHS.sub(
        lambda path: (
            path[0] if any(start <= path.start() < end for start, end in kept) else _last(path[0])
        ),
        text,
    )


def _last(path: str) -> str:
    """The last part of an absolute path, unless that may be a user's name (/home/somebody)."""
    parts = [part for part in re.split(r"[/\\]", path) if part and not part.endswith(":")]
    return parts[-1] if len(parts) > 2 else PATH


def _without_secrets(url: re.Match[str]) -> str:
    """A URL without user, password and query, and without the path unless it is a web address."""
    host, slash, path = re.split(r"[?#]", url["rest"], maxsplit=1)[0].partition("/")
    if url["scheme"].lower() not in ("http", "https", "file"):
        slash = path = ""
    return f"{url['scheme']}://{host.rpartition('@')[2]}{slash}{path}"


def _address(found: re.Match[str]) -> str:
    return ADDRESS if _is_address(found[0]) else found[0]


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return ""
