"""Run specs: everything that can change a number of a run, and the identity computed from it.

The identity hashes only settings that *differ from their defaults*, so adding a setting whose
default is the old behaviour leaves the identities of earlier runs unchanged.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Self, get_type_hints

from experiments.harness import setting_bounds
from experiments.io.files import canonical_json
from zia_core.errors import ZiaError
from zia_core.validation import Record, conform, conform_fields, parse

IDENTITY_DIGITS = 16
SLUG_LENGTH = 80
# One path component that starts with a letter or digit: never "..", hidden, or a path.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")
EXPERIMENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_kinds_of = cache(get_type_hints)  # of settings, which a plan has by the thousand


@dataclass(frozen=True)
class RunSpec:
    """One run of one experiment.

    `settings` is an instance of the experiment's frozen dataclass. Its fields have defaults and are
    numbers, strings, booleans, None or tuples of these. Paths, hosts, numbers of workers and the
    executor are not part of a run.
    """

    experiment: str
    version: int
    task: str
    method: str
    backbone: str
    data: str
    profile: str
    seed: int
    settings: Any

    def __post_init__(self) -> None:
        for field, kind in _TEXT_AND_NUMBERS.items():
            conform(kind, getattr(self, field), f"{field} of a run")
        if not EXPERIMENT_NAME.fullmatch(self.experiment):
            raise ZiaError(
                f"experiment {self.experiment!r:.60} is not a name: use at most 40 lower-case "
                "letters, digits and _, beginning with a letter"
            )
        for field in ("task", "method", "profile"):
            if not NAME.fullmatch(getattr(self, field)):
                raise ZiaError(
                    f"{field} {getattr(self, field)!r:.60} is not a name: use at most 40 letters, "
                    "digits and ._+-, beginning with a letter or digit"
                )
        if not 0 <= self.seed < 2**32:  # the range of all random number generators in use
            raise ZiaError(f"seed {self.seed} must be between 0 and 2**32 - 1")
        if not is_dataclass(self.settings) or isinstance(self.settings, type):
            raise TypeError(f"settings must be an instance of a dataclass, not {self.settings!r}")
        # 1 and 1.0 in a float field are the same run, so settings are normalised.
        object.__setattr__(self, "settings", _conformed(type(self.settings), vars(self.settings)))

    @property
    def identity(self) -> str:
        """16 hex digits of the SHA-256 of this run, without settings at their defaults.

        Settings are compared as canonical JSON, in which True and 1, or 1 and "1", differ.
        """
        defaults = asdict(type(self.settings)())
        changed = {
            name: value
            for name, value in asdict(self.settings).items()
            if canonical_json(value) != canonical_json(defaults[name])
        }
        text = canonical_json({**self.to_json(), "settings": changed})
        return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_DIGITS]

    @property
    def slug(self) -> str:
        """The readable part of the folder name: at most 80 characters of [a-z0-9.-]."""
        model = self.backbone.rstrip("/").rsplit("/", 1)[-1]
        end = f"-{_slugified(self.profile)}-s{self.seed}"
        start = _slugified(f"{self.method}-{self.task}-{model}")[: SLUG_LENGTH - len(end)]
        return start.rstrip("-.") + end

    @property
    def folder_name(self) -> str:
        """The name of the run folder, `<slug>-<identity>`."""
        return f"{self.slug}-{self.identity}"

    def to_json(self) -> dict[str, Any]:
        """Return the complete run, with the value of every setting."""
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "settings": asdict(self.settings),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], settings_type: type) -> Self:
        """Return the run that `to_json` stored.

        Settings missing from `stored` were added later, with the old behaviour as default. Raises
        ZiaError for an unknown setting, or a field that is missing or mistyped.
        """
        where = stored.where if isinstance(stored, Record) else "the run's config"
        values = conform_fields(_TEXT_AND_NUMBERS | {"settings": dict}, stored, where)
        try:
            _refuse_unknown(stored, [f.name for f in fields(cls)], "field of a run")
            return cls(**values | {"settings": _conformed(settings_type, values["settings"])})
        except ZiaError as error:
            raise ZiaError(f"{where}: {error}") from error

    def with_settings(self, changes: Mapping[str, str]) -> Self:
        """Return the run with settings changed by `--set key=value`."""
        kinds = get_type_hints(type(self.settings))
        _refuse_unknown(changes, sorted(asdict(self.settings)), "setting")
        parsed = {
            name: parse(kinds[name], text, f"setting {name}") for name, text in changes.items()
        }
        return replace(self, settings=replace(self.settings, **parsed))


_TEXT_AND_NUMBERS = {
    name: kind for name, kind in get_type_hints(RunSpec).items() if name != "settings"
}


def _conformed(settings_type: type, values: Mapping[str, object]) -> Any:
    kinds = _kinds_of(settings_type)
    _refuse_unknown(values, [f.name for f in fields(settings_type)], "setting")
    checked = {
        name: conform(kinds[name], value, f"setting {name}") for name, value in values.items()
    }
    setting_bounds.check(checked)
    return settings_type(**checked)


def _refuse_unknown(given: Mapping[str, object], valid: list[str], what: str) -> None:
    for name in given:
        if name not in valid:
            raise ZiaError(f"{name!r:.60} is not a {what}; choose from: {', '.join(valid)}")


def _slugified(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())
