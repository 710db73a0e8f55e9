"""The published descriptions of the config, made from the model: JSON Schema and the reference page.

``python -m bgp_agent.config.reference schema`` and ``... page`` print them; a test compares the files in docs/reference
with what they print.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from bgp_agent.config.environment import name_of
from bgp_agent.config.model import SECTIONS, Config, Peer, Section
from bgp_agent.config.reload import LIVE, RESTART
from bgp_agent.config.scalars import duration_text

JsonObject = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> JsonObject:
    """JSON Schema (2020-12) of the file. What needs two keys to judge, and addresses' own rules, are the model's."""
    made = Config.model_json_schema(by_alias=True, mode="validation")
    made["title"] = "bgp-agent configuration"
    made["description"] = "The config file of bgp-agent. What is left out has the default shown."
    definitions: JsonObject = made["$defs"]
    sections: list[type[Section]] = [*SECTIONS.values(), Peer]
    for model in sections:
        for key, properties in definitions[model.__name__]["properties"].items():
            _describe(model, key, properties)
    _durations(made)
    return {"$schema": _DIALECT, **made}


def _describe(model: type[Section], key: str, properties: JsonObject) -> None:
    properties.pop("title", None)
    if (description := model.model_fields[key].description) is not None:
        properties["description"] = description


def _durations(node: object) -> None:
    """Defaults of durations as they are written, and not as seconds."""
    if isinstance(node, dict):
        if isinstance(node.get("default"), float):
            text = duration_text(node["default"])
            node["default"] = 0 if text == "0" else text
            for bound in ("minimum", "maximum"):
                node.pop(bound, None)
        for value in node.values():
            _durations(value)


def schema_text() -> str:
    """:func:`schema` as it is published."""
    return json.dumps(schema(), indent=2) + "\n"


def page() -> str:
    """docs/reference/configuration.md."""
    parts = [_HEAD]
    parts.append(_table("", {k: f for k, f in Config.model_fields.items() if k in ("pools", "state_dir")}))
    for name, model in SECTIONS.items():
        doc = (model.__doc__ or "").strip().splitlines()[0]
        parts.append(f"## `{name}`\n\n{doc}\n\n" + _table(name, model.model_fields))
    parts.append(f"## `bgp.peers`\n\n{_PEERS}\n\n" + _table("bgp.peers[]", Peer.model_fields))
    parts.append(_RELOAD + _pairs(LIVE, "what happens") + "\n" + _RESTART + _pairs(RESTART, "why"))
    return "\n".join(parts)


def _table(section: str, fields: dict[str, Any]) -> str:
    rows = ["| key | default | environment | |", "|---|---|---|---|"]
    for name, field in fields.items():
        variable = name_of((section, name) if section else (name,)) if "[]" not in section else None
        path = f"{section}.{name}" if section else name
        rows.append(f"| `{path}` | {_default(field)} | {f'`{variable}`' if variable else ''} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(field: Any) -> str:  # noqa: ANN401 - pydantic's FieldInfo
    if field.is_required():
        return "required"
    extra = field.json_schema_extra or {}
    value = extra.get("default", field.default) if field.default_factory else field.default
    if field.default_factory and "default" not in extra:
        return ""
    if isinstance(value, float):
        return f"`{duration_text(value)}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _pairs(table: Any, head: str) -> str:  # noqa: ANN401 - a mapping of text to text
    return "\n".join([f"| key | {head} |", "|---|---|", *(f"| `{k}` | {v} |" for k, v in table.items())]) + "\n"


_HEAD: Final = """\
# Configuration

One YAML file: `-c FILE`, else `$BGP_AGENT_CONFIG`, else `/etc/bgp-agent/config.yaml`. `bgp-agent init` writes one with
comments, `bgp-agent check` validates it and prints what is in force. The JSON Schema is
[config.schema.json](config.schema.json). This page is made from the model: `python -m bgp_agent.config.reference page`.

- Scalars are those of YAML 1.2's core schema: `off`, `64512:10` and IPv6 addresses are text without quotes. In a flow
  list or mapping (`[...]`, `{...}`) an IPv6 address that ends in a colon (`fd00::`) needs quotes.
- Unknown keys, keys that stand twice, merge keys and tags of other schemas are refused, with the file, the line, the
  key and what to write instead.
- Durations are a whole number with `ms`, `s`, `m` or `h`, or 0; 720h is the longest.
- Relative paths count from the folder of the file.
- A variable of the table stands above the file. Its value is read as YAML, so a list is `[a, b]`; for a key that holds
  text it is the text. A variable with an unknown key of a known section is refused; any other name that begins with
  `BGP_AGENT_` is ignored, with one line in the log, because Kubernetes injects such names for a Service.
- Required are `bgp.asn`, one peer, and `pools` with the `file` source, unless `azure` is present.

The file of the `file` source is a mapping with the key `blocks`: `blocks: [{cidr: 192.168.1.0/26}]`. An empty list
withdraws everything; a file that is missing, unreadable or wrong withdraws nothing.

## Top level
"""

_PEERS: Final = "A list, one mapping for each neighbour; as a whole it can be given as `BGP_AGENT_BGP__PEERS`."

_RELOAD: Final = """\
## Reload

The config file, every `password_file` and the block file are watched; SIGHUP forces a read. A config that cannot be
used changes nothing: the last good one stays in force, and the log, `/status` and a metric say what is wrong.
A password file that is gone, empty or unreadable changes nothing either while the agent runs: the key that was read
before goes on, and the log and `/status` say so. One that was never read keeps its peer down, with the reason.

These keys take effect at once:

"""

_RESTART: Final = """\
A change of these is taken note of, shown in `/status`, and takes effect at the agent's next start:

"""


if __name__ == "__main__":
    sys.stdout.write(page() if sys.argv[1:] == ["page"] else schema_text())
