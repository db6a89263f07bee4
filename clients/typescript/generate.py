"""Writes src/client.ts from the OpenRPC document: a type for each schema, a class for each error, a method for each method.

`python -m clients.typescript.generate` writes it anew; a test fails where it is not what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hoverboard.errors import BY_KIND, RpcError
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.methods import admin_methods, public_methods
from hoverboard.rpc.openrpc import Document

TARGET: Final = Path(__file__).parent / "src" / "client.ts"
_PLAIN: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}

_HEAD = """\
/**
 * The methods of a Hoverboard service, typed. Generated from its OpenRPC document: edit clients/typescript/generate.py instead.
 */

import { Caller, RpcError, type CallOptions, type ClientOptions, type ErrorClasses, type WireError } from "./runtime.js";

export { RpcError, Unreachable, bytes, tensor } from "./runtime.js";
export type { CallOptions, ClientOptions, TensorValue } from "./runtime.js";
"""


def document() -> dict[str, Any]:
    """The OpenRPC document of both listeners together, of a service without models."""
    book, nothing = CodecBook(), _Nothing()
    public = public_methods(nothing, book, CallLimits(), nothing)
    known = {method.name for method in public}
    admin = [method for method in admin_methods(nothing, book, nothing) if method.name not in known]
    return Document([*public, *admin], book, url="", title="Hoverboard").build()


class _Nothing:
    """Stands for an engine and a recording, which methods only need when they are called."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def written(found: Mapping[str, Any]) -> str:
    """The client of a document, as TypeScript."""
    schemas = found["components"]["schemas"]
    parts = [
        _HEAD,
        *(_named(name, schema) for name, schema in sorted(schemas.items())),
        *(_params(method) for method in found["methods"] if method["params"]),
        *_errors(),
        _client(found["methods"]),
    ]
    return "\n".join(parts)


def _named(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    members = [
        _member(member, of, optional=member not in required) for member, of in schema.get("properties", {}).items()
    ]
    return f"{_doc(schema, '')}export interface {name} {{\n" + "".join(members) + "}\n"


def _params(method: Mapping[str, Any]) -> str:
    members = [_member(param["name"], param["schema"], optional=not param["required"]) for param in method["params"]]
    return f"export interface {_params_name(method)} {{\n" + "".join(members) + "}\n"


def _params_name(method: Mapping[str, Any]) -> str:
    return f"{_pascal(method['name'])}Params"


def _member(name: str, schema: Mapping[str, Any], *, optional: bool) -> str:
    return f"{_doc(schema, '  ')}  {name}{'?' if optional else ''}: {_type(schema)};\n"


def _doc(schema: Mapping[str, Any], indent: str) -> str:
    """A schema's description as a comment; of a union without one, that of its parts."""
    said = schema.get("description") or " ".join(part.get("description", "") for part in schema.get("anyOf", ()))
    return f"{indent}/** {said.strip()} */\n" if said.strip() else ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if schema.get("type") == "array":
        item = _type(schema.get("items", {}))
        return f"({item})[]" if "|" in item else f"{item}[]"
    if schema.get("type") == "object":
        return f"Record<string, {_type(schema.get('additionalProperties', {}))}>"
    return _PLAIN.get(schema.get("type", ""), "unknown")


def _errors() -> Iterator[str]:
    """A class for each error, below the class of its code where that has several."""
    leaves = sorted(BY_KIND.values(), key=lambda cls: (len(cls.__mro__), -cls.code, cls.kind))
    for cls in leaves:
        if cls is not RpcError:
            base = cls.__mro__[1].__name__
            yield f"/** {cls.code}, `{cls.kind}`: {cls.default}. */\nexport class {cls.__name__} extends {base} {{}}\n"
    by_type = "".join(f"    {cls.kind}: {cls.__name__},\n" for cls in leaves if cls is not RpcError)
    first = {cls.code: cls.__name__ for cls in reversed(leaves) if cls is not RpcError}
    by_code = "".join(f'    "{code}": {name},\n' for code, name in sorted(first.items()))
    kind = "Record<{}, new (error: WireError) => RpcError>"
    yield (
        f"const byType: {kind.format('string')} = {{\n{by_type}}};\n\n"
        f"const byCode: {kind.format('number')} = {{\n{by_code}}};\n\n"
        "const CLASSES: ErrorClasses = { byType, byCode };\n"
    ).replace("    ", "  ")


def _client(methods: list[Mapping[str, Any]]) -> str:
    body = "\n".join(_method(method) for method in methods)
    return f"""\
/**
 * Calls a service. Every call may throw `RpcError` (refused) or `Unreachable` (nothing that speaks JSON-RPC answered); what is
 * worth it is tried again before, within the deadline. Methods of the admin listener want its URL and its token.
 */
export class Client {{
  readonly #caller: Caller;

  constructor(url: string, options: ClientOptions = {{}}) {{
    this.#caller = new Caller(url, options, CLASSES);
  }}

{body}}}
"""


def _method(method: Mapping[str, Any]) -> str:
    name, result = method["name"], _type(method["result"]["schema"])
    given = f"params: {_params_name(method)}, " if method["params"] else ""
    return (
        f"  /** {method['summary']} */\n"
        f"  {_camel(name)}({given}options: CallOptions = {{}}): Promise<{result}> {{\n"
        f'    return this.#caller.call("{name}", {"params" if method["params"] else "{}"}, options);\n'
        "  }\n"
    )


def _pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[._]", name))


def _camel(name: str) -> str:
    pascal = _pascal(name)
    return pascal[:1].lower() + pascal[1:]


if __name__ == "__main__":
    TARGET.write_text(written(document()), encoding="utf-8")
