"""docs/reference/methods.md, from the OpenRPC documents of both faces."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from docs.generate.markdown import sentence, table
from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import STRING, Signature, TensorSpec
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.methods import Method, admin_methods, public_methods
from hoverboard.rpc.openrpc import Document

__all__ = ["page"]


def page() -> str:
    """Methods of both listeners."""
    book, uncalled = CodecBook(), cast(Any, object())  # methods are described here, and never called
    book.update(_shown_catalog())
    public = public_methods(uncalled, book, uncalled, uncalled)
    admin = admin_methods(uncalled, book, uncalled)
    return f"""# Methods

JSON-RPC 2.0 methods of the two listeners. Params may be named or positional, in the order of the tables. Any method can answer
`invalid_params` or `internal_error`; what else it can answer is listed with it, and explained under [errors](errors.md).
`rpc.discover` gives the same as an OpenRPC document. Each example is a call, and the `result` of its answer.

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
        given = {one["name"]: "required" if one["required"] else _default(one["schema"]) for one in method["params"]}
        fields = _fields("", {"properties": {one["name"]: one["schema"] for one in method["params"]}}, schemas)
        rows = [[f"`{name}`", kind, given.get(name, ""), text] for name, kind, text in fields]
        parts.append(table(["param", "type", "default", "meaning"], rows))
    else:
        parts.append("It takes no params.\n")
    results = [[f"`{name}`", kind, text] for name, kind, text in _fields("", method["result"]["schema"], schemas)]
    if results:
        parts.append(table(["result", "type", "meaning"], results))
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


def _default(schema: Mapping[str, Any]) -> str:
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
    """Name, type and meaning; of a field that takes several kinds of values, the meaning of each."""
    meanings = [part.get("description") for part in (schema, *schema.get("anyOf", ()))]
    return name, _type(schema, schemas), " ".join(dict.fromkeys(sentence(text) for text in meanings if text))


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
    return f"{kind} (at least {low})" if high is None or high >= 2**63 - 1 else f"{kind} ({low} to {high})"
