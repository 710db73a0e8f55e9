"""What can be wrong with a config, as values: which key, why, and what to do.

Two readers find problems: the model, one value at a time, and :mod:`bgp_agent.config.checks`, which sees more than one
key. Both end here, so that ``check``, the log and ``/status`` say the same words about either.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bgp_agent.config.model import SECTIONS, Config, Peer
from bgp_agent.config.yaml12 import Document, Key, Mark

MAX_SHOWN: Final = 20
"""Problems that a message lists; a file with more has one cause."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``reason`` says why and what to write instead."""

    key: Key
    reason: str


class ConfigError(Exception):
    """A config that must not be used. The message names file, line, key, reason and remedy for each problem."""

    def __init__(self, source: str, lines: Iterable[str]) -> None:
        self.source = source
        self.lines = tuple(lines)
        hidden = len(self.lines) - MAX_SHOWN
        more = (f"... and {hidden} more",) if hidden > 0 else ()
        super().__init__("\n".join((*self.lines[:MAX_SHOWN], *more)))


class UnreadableError(ConfigError):
    """A config whose file could not be read; another try may find nothing wrong with it."""


def key_text(key: Key) -> str:
    """A key path as people write it: ``bgp.peers[0].asn``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:64]}" if text else part[:64]
    return text if text.isprintable() else ascii(text)


def located(source: str, mark: Mark | None, reason: str, key: Key = ()) -> str:
    """One line about one problem: ``FILE:LINE:COLUMN: KEY: REASON``."""
    place = f"{source}:{mark.line}:{mark.column}" if mark else source
    return f"{place}: {key_text(key)}: {reason}" if key else f"{place}: {reason}"


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """What the model found, in our words. Values are shown only where the key is known: others may be secrets."""
    found: dict[Key, Problem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":
            continue  # a default that hangs on another key of the section, which is what is wrong and is told
        key = _written(detail["loc"], document.value)
        found.setdefault(key, Problem(key, _reason(detail, key)))
    return sorted(found.values(), key=lambda problem: (document.mark(problem.key) or Mark(0, 0)).line)


def _written(location: tuple[int | str, ...], value: object) -> Key:
    """The part of pydantic's location that names keys of the file, not members of a union."""
    key: list[str | int] = []
    for part in location:
        if isinstance(value, dict) and isinstance(part, str):
            key.append(part)
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            key.append(part)
            value = value[part]
    return tuple(key)


_PLAIN: Final = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text (a number that is meant as text stands in quotes)",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "has characters that cannot stand here",
}
_LIMITS: Final = {
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_long": "must not be longer than {max_length} characters",
}


def _reason(detail: ErrorDetails, key: Key) -> str:
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{suggestion(key)}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context).replace("'", "")
    reason = _PLAIN.get(kind, detail["msg"])
    if detail["input"] is None and kind != "missing":
        reason += ", but nothing stands here: fill it in or leave the key out"
    return reason


def suggestion(key: Key) -> str:
    """The words that follow "unknown key": the key that was probably meant, else those that exist there."""
    known = known_keys(key[:-1])
    wrong = str(key[-1])
    if wrong in ("password", "md5", "md5_password", "key"):
        close = ["password_file"] if "password_file" in known else []
    else:
        close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else ""


def known_keys(key: Key) -> list[str]:
    """The keys that may stand in the mapping at ``key``, in the order of the documentation."""
    if not key:
        return [field.alias or name for name, field in Config.model_fields.items()]
    if key[0] == "bgp" and len(key) == 3:
        return list(Peer.model_fields)
    section = SECTIONS.get(str(key[0])) if len(key) == 1 else None
    return list(section.model_fields) if section else []
