"""YAML as version 1.2 means it, with the place of every value and with bounds.

PyYAML reads YAML 1.1, where ``off`` is a boolean, ``64512:10`` a number in base 60 and ``012`` is ten. Its parser is
good, its table of scalars is not ours. So libyaml's events are taken and the scalars are resolved here by the core
schema (YAML 1.2.2, section 10.3). Building the values from events, and not from PyYAML's recursive composer, also gives
what a config reader needs and no ready loader has together: line and column of every key and value, duplicate keys
refused (section 3.2.1.1), and bounds on size, depth and on what aliases expand to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
Key: TypeAlias = "tuple[str | int, ...]"

MAX_NODES: Final = 500_000
"""Values in one document, aliases counted as often as they are used."""
MAX_DEPTH: Final = 32

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a build without libyaml reads the same, slower

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?", re.ASCII)
_SPECIAL: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONG: Final = 64  # characters; longer plain scalars are text
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text; both count from 1."""

    line: int
    column: int


class YamlError(ValueError):
    """The text is no YAML that is read here. ``mark``: where, None when the parser does not know."""

    def __init__(self, reason: str, mark: Mark | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mark = mark


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value, and where each key path stands. ``empty``: there was no document at all."""

    value: Value
    marks: dict[Key, Mark]
    empty: bool = False

    def mark(self, key: Key) -> Mark | None:
        """The place of ``key`` or, where it has none (not written, or reached by an alias), of what holds it."""
        while key and key not in self.marks:
            key = key[:-1]
        return self.marks.get(key)


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read."""

    value: list[Value] | dict[str, Value]
    key: Key
    anchor: str | None
    start: int  # values read when it began: what an alias to it costs
    pending: str | None = None  # the key whose value comes next


@dataclass(slots=True)
class _Builder:
    """Turns the parser's events into a value, without recursion."""

    marks: dict[Key, Mark] = field(default_factory=dict)
    anchors: dict[str, tuple[Value, int]] = field(default_factory=dict)
    stack: list[_Open] = field(default_factory=list)
    nodes: int = 0
    root: Value = None

    def scalar(self, event: yaml.ScalarEvent) -> None:
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.pending is None:
            self.take_key(top, top.value, event)
            return
        value = resolve(event)
        self.count(1, event)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self.place(value, event)

    def take_key(self, top: _Open, mapping: dict[str, Value], event: yaml.ScalarEvent) -> None:
        """Keys are text as written: no key of ours is a number, and ``off: 1`` has the key "off"."""
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            raise YamlError("merge keys (<<) are not part of YAML 1.2: write the keys out", _mark(event))
        if key in mapping:
            first = self.marks.get((*top.key, key))
            where = f", first in line {first.line}" if first else ""
            raise YamlError(f"the key {key[:64]!r} stands here twice{where}: keep one", _mark(event))
        top.pending = key
        mapping[key] = None
        self.marks[(*top.key, key)] = _mark(event)

    def open(self, value: list[Value] | dict[str, Value], event: yaml.CollectionStartEvent) -> None:
        kind = "map" if isinstance(value, dict) else "seq"
        if event.tag not in (None, "!", _TAG + kind):
            raise YamlError(
                f"the tag {str(event.tag)[:64]!r} is not part of YAML 1.2's core schema: leave it out", _mark(event)
            )
        if len(self.stack) >= MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", _mark(event))
        start = self.nodes
        self.count(1, event)
        key = self.place(value, event)
        self.stack.append(_Open(value, key, event.anchor, start))

    def close(self) -> None:
        top = self.stack.pop()
        if top.anchor:
            self.anchors[top.anchor] = (top.value, self.nodes - top.start)

    def alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor is None or event.anchor not in self.anchors:
            raise YamlError(f"the alias *{str(event.anchor)[:64]} has no finished anchor before it", _mark(event))
        value, cost = self.anchors[event.anchor]
        self.count(cost, event)
        self.place(value, event)

    def count(self, cost: int, event: yaml.Event) -> None:
        self.nodes += cost
        if self.nodes > MAX_NODES:
            raise YamlError(f"more than {MAX_NODES:,} values, aliases counted as often as they are used", _mark(event))

    def place(self, value: Value, event: yaml.Event) -> Key:
        """Put a value where it belongs and tell its key path."""
        if not self.stack:
            self.root = value
            self.marks[()] = _mark(event)
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            key: Key = (*top.key, len(top.value))
            top.value.append(value)
            self.marks[key] = _mark(event)
            return key
        name = top.pending
        if name is None:
            raise YamlError("a key must be a plain text, not a list, a mapping or an alias", _mark(event))
        key = (*top.key, name)
        top.value[name] = value
        top.pending = None
        return key


def read(text: str) -> Document:
    """Read one YAML document. Raises :class:`YamlError`, whatever the text is."""
    builder = _Builder()
    documents = 0
    for event in _events(text):
        if isinstance(event, yaml.ScalarEvent):
            builder.scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            builder.open({}, event)
        elif isinstance(event, yaml.SequenceStartEvent):
            builder.open([], event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            builder.close()
        elif isinstance(event, yaml.AliasEvent):
            builder.alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlError("a second document begins here (---): keep one", _mark(event))
    return Document(builder.root, builder.marks, empty=documents == 0)


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(place.line + 1, place.column + 1) if place else None
        raise YamlError(" ".join(filter(None, (error.problem, error.context))) or "not YAML", mark) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"a character that YAML does not allow: {error.reason}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise YamlError(f"not YAML: {str(error)[:200]}") from None


def resolve(event: yaml.ScalarEvent) -> Value:
    """The value of a scalar by the core schema, explicit core tags included."""
    text: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return plain(text) if event.implicit[0] and tag is None else text
    if tag == _TAG + "str":
        return text
    value = plain(text)
    kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    name = tag.removeprefix(_TAG)
    if tag.startswith(_TAG) and name in kinds:
        if isinstance(value, kinds[name]) and (name == "bool") == isinstance(value, bool):
            return float(value) if name == "float" and isinstance(value, int) else value
        raise YamlError(f"{text[:64]!r} is no {name}", _mark(event))
    raise YamlError(f"the tag {tag[:64]!r} is not part of YAML 1.2's core schema: leave it out", _mark(event))


def plain(text: str) -> Value:
    """A plain scalar by the table of YAML 1.2.2 section 10.3.2; what matches nothing is text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > _LONG or not (text[0].isdigit() or text[0] in "+-."):
        return text
    return _number(text)


def _number(text: str) -> Value:
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1] or ''}{'nan' if text[-1] in 'nN' else 'inf'}")
    return text


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None  # noqa: S101 - for the type checker: events of a text have marks
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
