"""Environment variables that stand above the file: ``BGP_AGENT_<SECTION>__<KEY>``.

Kubernetes injects names such as ``BGP_AGENT_SERVICE_HOST`` and ``BGP_AGENT_PORT_9179_TCP`` for a Service called
bgp-agent, so a name that is no override is ignored and reported, never refused. A name with a section of ours and a
key that does not exist is refused: it was meant for us.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bgp_agent.config.model import SECTIONS, Config
from bgp_agent.config.problems import Problem, suggestion
from bgp_agent.config.yaml12 import Key, Value, YamlError, read

PREFIX: Final = "BGP_AGENT_"
TOP_LEVEL: Final = {"POOLS": "pools", "STATE_DIR": "state_dir"}
OF_THE_CLI: Final = frozenset({"BGP_AGENT_CONFIG", "BGP_AGENT_URL"})
MAX_LENGTH: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the environment says: values by key path, the variable each came from, and names that mean nothing."""

    values: dict[Key, Value]
    names: dict[Key, str]
    ignored: tuple[str, ...]
    problems: tuple[Problem, ...]


def overrides(environ: Mapping[str, str]) -> Overrides:
    """Pick the overrides out of an environment. Nothing else of it is looked at or kept."""
    values: dict[Key, Value] = {}
    names: dict[Key, str] = {}
    ignored, problems = [], []
    for name in sorted(n for n in environ if n.startswith(PREFIX) and n not in OF_THE_CLI):
        key = key_of(name)
        if key is None:
            ignored.append(name)
            continue
        names[key] = name
        if len(key) == 2 and key[1] not in SECTIONS[str(key[0])].model_fields:
            problems.append(Problem(key, f"unknown key{suggestion(key)}"))
            continue
        try:
            values[key] = read_value(environ[name], text=_is_text(key))
        except YamlError as error:
            problems.append(Problem(key, f"is no YAML value: {error.reason}"))
    return Overrides(values, names, tuple(ignored), tuple(problems))


def key_of(name: str) -> Key | None:
    """The key path that a variable overrides, None when it is no override."""
    rest = name.removeprefix(PREFIX)
    if rest in TOP_LEVEL:
        return (TOP_LEVEL[rest],)
    section, separator, key = rest.partition("__")
    if separator and key and section == section.upper() and section.lower() in SECTIONS:
        return section.lower(), key.lower()
    return None


def name_of(key: Key) -> str | None:
    """The variable that overrides a key path, None when there is none."""
    if len(key) == 1:
        return next((PREFIX + name for name, top in TOP_LEVEL.items() if key[0] == top), None)
    section, leaf = key
    return f"{PREFIX}{str(section).upper()}__{str(leaf).upper()}"


def read_value(raw: str, *, text: bool) -> Value:
    """A variable's value as YAML has it; for a key that holds text, a number or a flag stays the text it is."""
    if len(raw) > MAX_LENGTH:
        raise YamlError(f"longer than {MAX_LENGTH} characters")
    try:
        value = read(raw).value
    except YamlError:
        if text:
            return raw
        raise
    return raw if text and value is not None and not isinstance(value, str) else value


def apply(value: Value, found: Overrides) -> Value:
    """The file's value with the overrides in it. The file's own value is not changed."""
    if not found.values or not isinstance(value, dict):
        return value
    merged = dict(value)
    for key, override in found.values.items():
        if len(key) == 1:
            merged[str(key[0])] = override
            continue
        section = merged.get(str(key[0]))
        if section is None or isinstance(section, dict):  # anything else is refused by the model, with its place
            merged[str(key[0])] = {**(section or {}), str(key[1]): override}
    return merged


def _is_text(key: Key) -> bool:
    model = Config if len(key) == 1 else SECTIONS[str(key[0])]
    annotation = model.model_fields[str(key[-1])].annotation
    members = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (types.UnionType, typing.Union)
        else (annotation,)
    )
    return all(_base(member) in (str, type(None)) for member in members)


def _base(annotation: object) -> object:
    """``str`` for annotated texts and for literals of texts."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is typing.Literal:
        return type(typing.get_args(annotation)[0])
    return annotation
