"""Read the text of a block file: ``blocks: [{cidr: 192.168.1.0/26}]``.

Pure: a text in, the good entries and the reasons against the others out. A file is judged entry by entry, so that one
slip of the pen neither hides the good entries nor withdraws anything; :mod:`bgp_agent.sources.file` draws that
conclusion.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from bgp_agent.config.yaml12 import Document, Key, Value, YamlError, read
from bgp_agent.core.prefix import Prefix, PrefixError, PrefixSet, parse_prefix, prefix_text

MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a block file. 100,000 blocks need about half of it."""
MAX_BLOCKS: Final = 100_000
SHOWN: Final = 3
"""Reasons that are named in a sentence; the others are counted."""


@dataclass(frozen=True, slots=True)
class BlockFile:
    """What a text says. ``problems``: why it is not the whole truth; ``readable``: is it a block file at all."""

    blocks: frozenset[Prefix]
    problems: tuple[str, ...] = ()
    readable: bool = True

    @property
    def reason(self) -> str:
        """The problems in one sentence, empty when there are none."""
        hidden = len(self.problems) - SHOWN
        return "; ".join(self.problems[:SHOWN]) + (f"; and {hidden} more" if hidden > 0 else "")


def parse(text: str, pools: PrefixSet) -> BlockFile:
    """Read a block file. Never raises, whatever the text is."""
    try:
        document = read(text)
        entries = _entries(document.value)
    except YamlError as error:
        place = f"line {error.mark.line}: " if error.mark else ""
        return BlockFile(frozenset(), (place + error.reason,), readable=False)
    good, problems = _judge(entries, pools, document)
    if isinstance(document.value, dict):
        unknown = [key for key in document.value if key != "blocks"]
        problems += [_said(document, (key,), f"unknown key {key[:64]!r}: only `blocks` stands here") for key in unknown]
    return BlockFile(frozenset(good), tuple(problems))


def _entries(value: Value) -> list[Value]:
    """The list under ``blocks``. Raises :class:`YamlError` for every other shape."""
    if value is None:
        raise YamlError("it is empty: an empty list is written as `blocks: []`")
    if not isinstance(value, dict):
        raise YamlError("it must be a mapping with the key `blocks`, such as `blocks: [{cidr: 192.168.1.0/26}]`")
    if "blocks" not in value:
        raise YamlError(f"the key `blocks` is missing{_instead(value, 'blocks')}")
    entries = value["blocks"]
    if not isinstance(entries, list):
        raise YamlError("`blocks` must be a list: `blocks: []` for none, else `blocks: [{cidr: 192.168.1.0/26}]`")
    if len(entries) > MAX_BLOCKS:
        raise YamlError(f"it has {len(entries):,} entries, more than {MAX_BLOCKS:,}")
    return entries


def _judge(entries: list[Value], pools: PrefixSet, document: Document) -> tuple[set[Prefix], list[str]]:
    """The entries that can be announced, and what is wrong with the others.

    Of two entries that overlap, both are refused: which one was meant cannot be known.
    """
    read_entries: dict[Prefix, int] = {}
    wrong: dict[int, str] = {}
    for index, entry in enumerate(entries):
        try:
            prefix = _entry(entry, pools)
        except PrefixError as error:
            wrong[index] = str(error)
            continue
        if prefix in read_entries:
            wrong[index] = f"{prefix_text(prefix)} stands here twice"
        else:
            read_entries[prefix] = index
    clashing = _clashes(read_entries)
    for prefix, other in clashing.items():
        wrong[read_entries[prefix]] = f"{prefix_text(prefix)} overlaps {prefix_text(other)}: keep one"
    problems = [_said(document, ("blocks", index), wrong[index]) for index in sorted(wrong)]
    return read_entries.keys() - clashing.keys(), problems


def _entry(entry: Value, pools: PrefixSet) -> Prefix:
    """One entry as a prefix. Raises :class:`PrefixError` with what is wrong with it."""
    if not isinstance(entry, dict):
        raise PrefixError(f"{_short(entry)} is no block: write {{cidr: 192.168.1.0/26}}")
    if "cidr" not in entry:
        raise PrefixError(f"the key `cidr` is missing{_instead(entry, 'cidr')}")
    if len(entry) > 1:
        other = next(key for key in entry if key != "cidr")
        raise PrefixError(f"unknown key {other[:64]!r}: only `cidr` stands here")
    text = entry["cidr"]
    if not isinstance(text, str):
        raise PrefixError(f"{_short(text)} is no prefix: write it as ADDRESS/LENGTH")
    prefix = parse_prefix(text)
    if pools.covering(prefix) is None:
        raise PrefixError(f"{prefix_text(prefix)} is outside the pools")
    return prefix


def _clashes(prefixes: dict[Prefix, int]) -> dict[Prefix, Prefix]:
    """Prefixes that cover another one or are covered, each with such another one.

    Sorted by address and then by length, a prefix stands right after those that cover it, so one pass is enough.
    """
    found: dict[Prefix, Prefix] = {}
    above: list[tuple[int, int, Prefix]] = []  # (size, last address, prefix), each covering the next
    for prefix in sorted(prefixes, key=lambda p: (len(p), p)):
        size, bits = len(prefix), (len(prefix) - 1) * 8
        first = int.from_bytes(prefix[:-1], "big")
        while above and (above[-1][0] != size or above[-1][1] < first):
            above.pop()
        if above:
            outer = above[-1][2]
            found[prefix] = outer
            found.setdefault(outer, prefix)
        above.append((size, first | (1 << bits - prefix[-1]) - 1, prefix))
    return found


def _said(document: Document, key: Key, reason: str) -> str:
    mark = document.mark(key)
    return f"line {mark.line}: {reason}" if mark else reason


def _instead(mapping: dict[str, Value], wanted: str) -> str:
    close = difflib.get_close_matches(wanted, list(mapping)[:20], n=1)
    return f", there is {close[0][:64]!r}" if close else ""


def _short(value: Value) -> str:
    return "an empty entry" if value is None else repr(value)[:64]
