"""Writes the reference pages, and hoverboard.example.toml, from the code: `make docs`.

A page that people write by hand says something else than the code after a while. So these are generated, and a test
fails where what is committed is not what this module makes of the code.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin

import annotated_types
import click
import msgspec
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from hoverboard.cli import main
from hoverboard.cli.gaps import NEXT_STEPS
from hoverboard.config import CONFIG_FILE, ENV_PREFIX, Settings
from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import STRING, Signature, TensorSpec
from hoverboard.errors import BY_KIND, VIOLATIONS, HoverboardError, RpcError, StaleSignature
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.methods import Method, admin_methods, public_methods
from hoverboard.rpc.openrpc import Document
from hoverboard.telemetry import families
from hoverboard.versions.serving import Serving

ROOT: Final = Path(__file__).resolve().parents[1]
_NOTE: Final = "<!-- Written by `make docs` from the code; edit the code, not this page. -->\n\n"
_UNITS: Final = {"_s": "seconds", "_ms": "milliseconds", "_mb": "MiB", "_bytes": "bytes", "_days": "days"}
_METRIC_UNITS: Final = {"seconds": "seconds", "bytes": "bytes", "js": "bits"}

Row = Sequence[str]


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    reference = ROOT / "docs" / "reference"
    return {
        ROOT / "hoverboard.example.toml": _example_file(),
        reference / "settings.md": _NOTE + _settings(),
        reference / "methods.md": _NOTE + _methods(),
        reference / "errors.md": _NOTE + _errors(),
        reference / "metrics.md": _NOTE + _metrics(),
        reference / "commands.md": _NOTE + _commands(),
        reference / "tables.md": _NOTE + _tables((ROOT / "tests" / "integration" / "schema.sql").read_text("utf-8")),
    }


# --- settings ---------------------------------------------------------------------------------------------------------


def _example_file() -> str:
    head = (
        f"# Every setting with its default, commented out. Copy to {CONFIG_FILE} in the directory you serve from.\n"
        f"# A flag of `hoverboard serve` wins over the environment ({ENV_PREFIX}PORT=9000), and that over this file.\n"
    )
    entries = [
        textwrap.fill(_sentence(field.description), 118, initial_indent="# ", subsequent_indent="# ", **_WHOLE)
        + f"\n#{name} = {_toml(field.default)}\n"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([head, *entries])


_WHOLE: Final[Mapping[str, Any]] = {"break_long_words": False, "break_on_hyphens": False}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return str(value)
    return f'"{_plain(value)}"'


def _settings() -> str:
    rows = [
        [f"`{name}`", _default(field.default), _allowed(name, field), _sentence(field.description)]
        for name, field in Settings.model_fields.items()
    ]
    return f"""# Settings

Each setting can be given in three places. The first that has it wins:

1. a flag of `hoverboard serve`: `--api-workers 2`; `--journal-fsync` and `--no-journal-fsync` where the values are `true` and `false`
2. an environment variable: `{ENV_PREFIX}API_WORKERS=2`
3. a line in `{CONFIG_FILE}` in the working directory: `api_workers = 2`; `hoverboard.example.toml` has every line

{_table(["setting", "default", "values", "meaning"], rows)}
## Keys of serving.toml

`serving.toml` in a model's folder is optional, and so is every key. A change is noticed within `scan_interval_s`. A file that is
malformed changes nothing: the last good one stays in force. [Publish](../publish.md#servingtoml) shows how it is used.

{_table(["key", "default", "meaning"], _serving_rows())}"""


def _serving_rows(struct: type[msgspec.Struct] = Serving, prefix: str = "") -> Iterator[Row]:
    """The keys of one table of the file, then those of the tables within it."""
    meanings, fields = _attributes(struct), msgspec.structs.fields(struct)
    inner = {field.name: type(field.default) for field in fields if isinstance(field.default, msgspec.Struct)}
    for field in fields:
        if field.name not in inner:
            default = "none" if field.default in (None, ()) else f"`{_plain(field.default)}`"
            yield [f"`{prefix}{field.name}`", default, _capital(meanings[field.name]) + "."]
    for name, table in inner.items():
        yield from _serving_rows(table, f"{name}.")


def _attributes(cls: type) -> dict[str, str]:
    """What the section `Attributes` of a docstring says of each."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: _sentence(text).rstrip(".") for name, text in entries}


def _default(value: Any) -> str:
    return f"`{_plain(value)}`" if _plain(value) else "empty"


def _plain(value: Any) -> str:
    if isinstance(value, SecretStr):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(name: str, field: FieldInfo) -> str:
    """Which values a setting takes, in words."""
    if field.annotation is bool:
        return "`true`, `false`"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if field.annotation not in (int, float):
        return "text"
    unit = next((f" {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    above = next((limit.gt for limit in field.metadata if isinstance(limit, annotated_types.Gt)), None)
    least = next((limit.ge for limit in field.metadata if isinstance(limit, annotated_types.Ge)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, annotated_types.Le)), None)
    low = f"at least {least}" if above is None else f"above {above}"
    return (low if most is None else f"{low.removeprefix('at least ')} to {most}") + unit


# --- methods ----------------------------------------------------------------------------------------------------------


def _methods() -> str:
    book, uncalled = CodecBook(), cast(Any, object())  # methods are described here, and never called
    book.update(_shown_catalog())
    public = public_methods(uncalled, book, uncalled, uncalled)
    admin = admin_methods(uncalled, book, uncalled)
    return f"""# Methods

JSON-RPC 2.0 methods of the two listeners. Params may be named or positional, in the order of the tables. Any method can answer
`invalid_params` or `internal_error`; what else it can answer is listed with it, and explained under [errors](errors.md).
`rpc.discover` gives the same as an OpenRPC document.

## Public listener

{_face(public, book)}
## Admin listener

Calls need the header `Authorization: Bearer TOKEN`; the token is in `admin.token` in the data directory. `models.list`,
`models.describe` and `rpc.discover` are answered here, too.

{_face(admin, book, known={method.name for method in public} | {"rpc.discover"})}"""


def _shown_catalog() -> Catalog:
    """The model that examples are of."""
    signature = Signature(
        task="classification",
        inputs=(TensorSpec(name="text", dtype=STRING, shape=()),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(2,)),),
        labels=("furniture", "toy"),
    )
    manifest = {"example_instance": "a chair with a high back"}
    version = VersionStatus(3, "live", signature=signature, manifest=manifest)
    return Catalog({"products": ModelStatus("products", {"stable": 3}, (version,))})


def _face(methods: Sequence[Method[Any]], book: CodecBook, known: Collection[str] = ()) -> str:
    document = Document(methods, book, url="http://127.0.0.1:8080/", title="Hoverboard").build()
    schemas = document["components"]["schemas"]
    return "\n".join(_method(method, schemas) for method in document["methods"] if method["name"] not in known)


def _method(method: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    (example,) = method["examples"]
    params = {pair["name"]: pair["value"] for pair in example["params"]}
    call = {"jsonrpc": "2.0", "id": 1, "method": method["name"], **({"params": params} if params else {})}
    parts = [f"### {method['name']}\n\n{method['summary']}\n"]
    if method["params"]:
        rows = [
            [f"`{name}`", kind, "yes" if one["required"] else _param_default(one["schema"]), text]
            for one in method["params"]
            for name, kind, text in [_field(one["name"], one["schema"], schemas)]
        ]
        parts.append(_table(["param", "type", "required, or default", "meaning"], rows))
    else:
        parts.append("It takes no params.\n")
    fields = [] if method["name"] == "rpc.discover" else list(_fields("", method["result"]["schema"], schemas))
    if fields:
        parts.append(_table(["result", "type", "meaning"], [[f"`{name}`", kind, text] for name, kind, text in fields]))
    kinds = [kind for error in method["errors"] for kind in error["data"]["types"]]
    if others := [kind for kind in kinds if kind not in ("invalid_params", "internal_error")]:
        parts.append(f"Errors: {', '.join(f'`{kind}`' for kind in others)}\n")
    shown = json.dumps(call, ensure_ascii=False)
    if method["name"] != "rpc.discover":
        shown += "\n" + json.dumps(_to_json(example["result"]["value"]), ensure_ascii=False)
    parts.append(f"```json\n{shown}\n```\n")
    return "\n".join(parts)


def _to_json(value: Any) -> Any:
    """Numbers of NumPy as Python's; those of a float32 with the digits that it has."""
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def _param_default(schema: Mapping[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if schema.get("default") is not None else "none"


def _fields(
    prefix: str, schema: Mapping[str, Any], schemas: Mapping[str, Any], shown: dict[int, str] | None = None
) -> Iterator[tuple[str, str, str]]:
    """The members of an object, and of those within it, by path: name, type, meaning. What came before is referred to."""
    shown = {} if shown is None else shown
    for name, one in _resolved(schema, schemas).get("properties", {}).items():
        path, kind, text = _field(prefix + name, one, schemas)
        inner = next((part for part in one.get("anyOf", [one]) if part.get("type") != "null"), one)
        if inner.get("type") == "array":
            path_within, inner = f"{prefix}{name}[]", inner["items"]
        else:
            path_within = f"{prefix}{name}"
        known = shown.setdefault(id(_resolved(inner, schemas)), path_within) if "$ref" in inner else path_within
        yield path, kind, text if known == path_within else f"{text} Members as in `{known}`.".strip()
        if known == path_within:
            yield from _fields(f"{path_within}.", inner, schemas, shown)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _field(name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[str, str, str]:
    described = (
        schema
        if "description" in schema
        else next((part for part in schema.get("anyOf", ()) if "description" in part), schema)
    )
    return name, _type(schema, schemas), _sentence(described.get("description"))


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part, schemas) for part in schema["anyOf"]))
    kind = _resolved(schema, schemas).get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {}), schemas)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return str(kind)
    return f"{kind}, {low} and more" if high is None or high >= 2**63 - 1 else f"{kind}, {low} to {high}"


# --- errors -----------------------------------------------------------------------------------------------------------


def _errors() -> str:
    in_order = sorted(BY_KIND.values(), key=lambda cls: inspect.getsourcelines(cls)[1])
    rows = [
        [str(cls.code), f"`{cls.kind}`", str(cls.http_status), "yes" if cls.retryable else "no", *_when_and_what(cls)]
        for cls in in_order
    ]
    others = [cls for cls in HoverboardError.__subclasses__() if cls.__module__ == HoverboardError.__module__]
    ours = [[f"`{cls.__name__}`", _when_and_what(cls)[0]] for cls in others if cls not in (RpcError, StaleSignature)]
    return f"""# Errors

A refused call is answered with a JSON-RPC error. Its `data` has the `type` below, whether trying again may help (`retryable`),
`retry_after_ms` where the server knows when, the `request_id` that the log has too, and `details`.
[Call](../call.md#errors) shows one. In a JSON-RPC batch each item has its own error, and the HTTP status is 200.

{_table(["code", "type", "HTTP", "retryable", "when", "what to do"], rows)}
## How a sample breaks its contract

`invalid_params` that a model's contract is the reason of are counted by these kinds in `hoverboard_contract_violations_total`.

{_table(["kind", "what came"], [[f"`{kind}`", _capital(text) + "."] for kind, text in VIOLATIONS.items()])}
## Errors that are not answers

Commands print these as one sentence on stderr and exit with status 1. From Python they are raised as classes of `hoverboard.errors`.

{_table(["class", "when"], ours)}"""


def _when_and_what(cls: type) -> tuple[str, str]:
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")[0]
    when, _, what = summary.partition("What to do: ")
    return _sentence(when), _capital(_sentence(what))


# --- metrics ----------------------------------------------------------------------------------------------------------


def _metrics() -> str:
    rows = []
    for family in (each.family for each in families.ALL):
        name = family._name + ("_total" if family._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family._labelnames) or "-"
        unit = next((unit for end, unit in _METRIC_UNITS.items() if family._name.endswith(f"_{end}")), "")
        rows.append([f"`{name}`", family._type, labels, unit, _sentence(family._documentation)])
    return f"""# Metrics

`/metrics` on either listener answers with these in Prometheus' text format, summed over all processes.
A label that a client could make up (a method, model or input) is `unknown` where the service does not know it.
[Operate](../operate.md#metrics) says which to watch.

{_table(["metric", "type", "labels", "unit", "meaning"], rows)}"""


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands() -> str:
    sections = [_command(path, command) for path, command in _walk(("hoverboard",), main)]
    return "# Commands\n\n" + "\n".join(sections)


def _walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None  # noqa: S101 - it is on the list
            yield from _walk((*path, name), inner)


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc((command.help or "").replace("\b\n", "")).split("\n\n")
    parts = [f"## {' '.join(path)}\n", f"```text\n{usage}\n```\n", *(f"{_sentence(text)}\n" for text in paragraphs)]
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if path == ("hoverboard", "serve"):
        parts.append("Each option is one of the [settings](settings.md).\n")
    elif options:
        parts.append(_table(["option", "values", "meaning"], [_option(one, context) for one in options]))
    statuses: Mapping[str, str] = getattr(command, "statuses", {})
    if statuses:
        parts.append(_table(["exit status", "meaning"], [[f"`{status}`", text] for status, text in statuses.items()]))
    examples: Mapping[str, str] = getattr(command, "examples", {})
    lines = [f"# {what}\n{line}" for what, line in examples.items()]
    parts.append("```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _option(option: click.Option, context: click.Context) -> Row:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        values = ""
    elif isinstance(option.type, click.Choice):
        values = ", ".join(f"`{value}`" for value in option.type.choices)
    else:
        values = option.make_metavar(context).lower().strip("[]")
    told = _sentence(option.help)
    if option.show_default and option.default not in (None, ()):
        told += f" Default: `{option.default}`."
    return [names, values, re.sub(r" ?\[default: (.*?)\]", r" Default: \1.", told)]


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(dump: str) -> str:
    """From the schema as pg_dump writes it, which a test holds against what the migrations make."""
    comments = {
        (kind, place.replace("hoverboard.", "").replace('"', "")): text.replace("''", "'")
        for kind, place, text in re.findall(r"^COMMENT ON (\w+) (.+?) IS '((?:[^']|'')*)';", dump, re.MULTILINE)
    }
    parts = [_relation(name, columns, dump, comments) for name, columns in sorted(_relations(dump).items())]
    functions = [
        [f"`{place.partition('.')[2]}`" if place.startswith("hoverboard.") else f"`{place}`", text]
        for (kind, place), text in comments.items()
        if kind == "FUNCTION"
    ]
    return f"""# Tables

The schema `hoverboard` in Postgres. `hoverboard psql` opens a shell on it; [these questions](../sql.md) show how the tables are joined.
The role `reader` may read all of it, and `recorder` is what the service writes as.

Partitioned tables have one partition for each day (UTC) of `at`, and a default partition for rows whose clock was implausible or
whose day had no partition yet. Give `at` a range in every query on them.

{"".join(parts)}## Reasons of gaps

What `gaps.reason` may hold, and what to do about it; `hoverboard gaps` lists those of the last days.

{_table(["reason", "what to do"], [[f"`{reason}`", text] for reason, text in NEXT_STEPS.items()])}
## Functions

{_table(["function", "what it does"], functions)}"""


def _relations(dump: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Tables and views -> columns: name, type, whether null is allowed. Partitions are left out."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    for name, body in re.findall(r"^CREATE TABLE hoverboard\.(\w+) \(\n(.*?)^\)", dump, re.MULTILINE | re.DOTALL):
        if not name.endswith("_default"):
            columns = re.findall(r'^    "?([a-z]\w*)"? (.+?)(?: DEFAULT .+?)?( NOT NULL)?,?$', body, re.MULTILINE)
            found[name] = [(column, kind, not bound) for column, kind, bound in columns]
    for name in re.findall(r"^CREATE VIEW hoverboard\.(\w+) AS", dump, re.MULTILINE):
        columns = re.findall(rf'^COMMENT ON COLUMN hoverboard\.{name}\."?(\w+)"? ', dump, re.MULTILINE)
        found[name] = [(column, "", True) for column in columns]
    return found


def _relation(
    name: str, columns: Sequence[tuple[str, str, bool]], dump: str, comments: Mapping[tuple[str, str], str]
) -> str:
    view = ("VIEW", name) in comments
    rows = [
        [f"`{column}`", _short(kind), "yes" if null else "no", comments["COLUMN", f"{name}.{column}"]]
        for column, kind, null in columns
    ]
    if view:
        rows = [[column, text] for column, _, _, text in rows]
    keys = re.findall(
        rf"^ALTER TABLE ONLY hoverboard\.{name}\n    ADD CONSTRAINT \w+ ((?:PRIMARY KEY|UNIQUE|FOREIGN KEY).+);",
        dump,
        re.MULTILINE,
    )
    indexes = re.findall(rf"^CREATE INDEX \w+ ON (?:ONLY )?hoverboard\.{name} USING (.+);", dump, re.MULTILINE)
    grants = re.findall(rf"^GRANT (.+) ON TABLE hoverboard\.{name} TO recorder;", dump, re.MULTILINE)
    partitioned = re.search(rf"^CREATE TABLE hoverboard\.{name} \(\n[^;]*^\)\nPARTITION BY", dump, re.MULTILINE)
    notes = [f"Index: `{_short(one)}`" for one in indexes]
    notes = [f"Key: `{one.replace('hoverboard.', '')}`".replace("PRIMARY KEY", "primary key") for one in keys] + notes
    notes = [_lowered(note) for note in notes]
    notes.append(f"`recorder` may: {', '.join(grants).lower().replace(',', ', ').replace(',  ', ', ')}")
    if partitioned:
        notes.insert(0, "Partitioned by day of `at`")
    header = ["column", "meaning"] if view else ["column", "type", "null", "meaning"]
    listed = "\n".join(f"- {note}" for note in notes)
    return f"## {name}\n\n{comments['VIEW' if view else 'TABLE', name]}\n\n{_table(header, rows)}\n{listed}\n\n"


def _short(kind: str) -> str:
    kind = re.sub(r" CONSTRAINT \w+$", "", kind)
    return kind.replace("timestamp with time zone", "timestamptz").replace("double precision", "float8")


def _lowered(note: str) -> str:
    for word in ("PRIMARY KEY", "UNIQUE", "FOREIGN KEY", "REFERENCES", "WHERE", "IS NOT NULL"):
        note = note.replace(word, word.lower())
    return note


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _table(header: Row, rows: Iterable[Row]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(
        f"| {' | '.join(line)} |\n".replace("| --- ", "|---").replace("---|---", "---|---") for line in lines
    )


def write() -> None:
    """Write every page that differs from what is there."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
