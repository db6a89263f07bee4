"""How raw params become a method's struct, with errors that point at what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Raw

from hoverboard.codec.error_words import excerpt, kind, token
from hoverboard.errors import InvalidParams
from hoverboard.rpc.fields import LARGEST

__all__ = ["Binder", "explained", "words_of"]

P = TypeVar("P", bound=msgspec.Struct)


class Binder(Generic[P]):
    """Turns raw named or positional params into one struct."""

    def __init__(self, params: type[P]) -> None:
        self._params = params
        self._fields = {field.encode_name: field for field in msgspec.structs.fields(params)}
        self._names = tuple(self._fields)
        self._decoders: dict[str, Callable[[Raw], Any]] = {
            name: (lambda raw: raw) if _is_raw(field.type) else msgspec.json.Decoder(field.type).decode
            for name, field in self._fields.items()
        }

    def bind(self, positional: Sequence[Raw], named: Mapping[str, Raw]) -> P:
        """The struct.

        Raises:
            InvalidParams: too many, unknown, missing or ill-typed params.
        """
        if len(positional) > len(self._names):
            raise InvalidParams("", f"at most {len(self._names)} positional params", str(len(positional)))
        raws = dict(zip(self._names, positional, strict=False)) if positional else named
        for name in raws:
            if name not in self._fields:
                expected = f"one of {', '.join(self._names)}" if self._names else "no params"
                raise InvalidParams(f"/{token(name)}", expected, "an unknown param")
        # One by one, so that an error names the param: the whole struct at once would name only the first byte.
        values = {name: self._decoded(name, raw) for name, raw in raws.items()}
        for name, field in self._fields.items():
            if field.required and name not in values:
                raise InvalidParams(f"/{token(name)}", words_of(field.type), "nothing")
        return self._params(**values)

    def understood(self, params: P | Mapping[str, Raw] | Sequence[Raw] | None, names: Sequence[str]) -> dict[str, Any]:
        """Those of some params that can be read, of a call that as a whole may make no sense.

        Args:
            given: the struct, or raw params by name or by position; None for none.
            names: of the wanted params; those that the method does not have are left out.
        """
        known = [name for name in names if name in self._fields]
        if isinstance(params, self._params):
            return {name: getattr(params, name) for name in known}
        raw = cast(Mapping[str, Raw] | Sequence[Raw], params or ())
        named = raw if isinstance(raw, Mapping) else dict(zip(self._names, raw, strict=False))
        values = {name: self._fields[name].default for name in known if not self._fields[name].required}
        for name in known:
            if name in named:
                values.pop(name, None)
                with suppress(InvalidParams):
                    values[name] = self._decoded(name, named[name])
        return values

    def repoint(self, error: InvalidParams) -> InvalidParams:
        """The same error for positional params: its pointer begins with an index instead of a name."""
        details = error.details or {}
        name, slash, rest = str(details["pointer"]).removeprefix("/").partition("/")
        if name not in self._names:
            return error
        return InvalidParams(
            f"/{self._names.index(name)}{slash}{rest}",
            details["expected"],
            details["got"],
            violation=error.violation,
            input_name=error.input_name,
        )

    def _decoded(self, name: str, raw: Raw) -> Any:
        try:
            return self._decoders[name](raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise explained(f"/{token(name)}", self._fields[name].type, raw, str(error)) from None


def explained(place: str, expected_type: Any, raw: Raw, text: str) -> InvalidParams:
    """What is wrong with one param, from the decoder's own error text; goes into objects and lists to find the place."""
    # msgspec's own error names a byte or a path in its own words; clients get a JSON Pointer, as everywhere.
    element = _bad_element(place, expected_type, raw)
    if element is not None:
        return element
    member = _bad_member(expected_type, raw)
    if member is not None:
        name, member_type, member_raw, member_text = member
        return explained(f"{place}/{token(name)}", member_type, member_raw, member_text)
    return InvalidParams(place, words_of(expected_type), _got(raw, text))


def words_of(expected_type: Any) -> str:
    """A param's type with its limits, in words."""
    schema = msgspec.json.schema(expected_type) if not _is_raw(expected_type) else {}
    return _schema_words(schema)


def _schema_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_schema_words(part) for part in schema["anyOf"])
    kinds = schema.get("type", "value")
    if isinstance(kinds, list):
        return " or ".join(_schema_words({**schema, "type": one}) for one in kinds)
    if schema.get("format") == "uuid":
        return "a UUIDv7"
    article = "an" if kinds[0] in "aeio" else "a"
    words = "null" if kinds == "null" else f"{article} {kinds}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if kinds in ("integer", "number") and low is not None:
        most = "2^63-1" if high == LARGEST else f"{high or 0:g}"
        words += f" >= {low:g}" if high is None else f" from {low:g} to {most}"
    longest = schema.get("maxLength")
    if kinds == "string" and longest is not None:
        words += f" of {schema.get('minLength', 0)} to {longest} characters"
    if kinds == "array" and "maxItems" in schema:
        words += f" of {schema.get('minItems', 0)} to {schema['maxItems']} elements"
    if kinds == "object" and "maxProperties" in schema:
        words += f" of at most {schema['maxProperties']} members"
    return words


def _bad_member(expected_type: Any, raw: Raw) -> tuple[str, Any, Raw, str] | None:
    """The first member of an object param that does not fit: its name, the type it should have, its value, why."""
    types = _member_types(expected_type)
    if types is None or bytes(raw)[:1] != b"{":
        return None
    for name, value in msgspec.json.decode(raw, type=dict[str, Raw]).items():
        for member_type, member_raw in ((types[0], Raw(msgspec.json.encode(name))), (types[1], value)):
            try:
                msgspec.json.decode(member_raw, type=member_type)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return name, member_type, member_raw, str(error)
    return None


def _bad_element(place: str, expected_type: Any, raw: Raw) -> InvalidParams | None:
    """What is wrong with the first element that does not fit of a param that is a list."""
    element_type = _element_type(expected_type)
    if element_type is None or bytes(raw)[:1] != b"[":
        return None
    elements = msgspec.json.decode(raw, type=list[Raw])
    if not (isinstance(element_type, type) and issubclass(element_type, msgspec.Struct)):
        return _bad_value(place, element_type, elements)
    binder = Binder(element_type)
    for index, element in enumerate(elements):
        try:
            binder.bind((), msgspec.json.decode(element, type=dict[str, Raw]))
        except InvalidParams as error:
            details = error.details or {}
            return InvalidParams(f"{place}/{index}{details['pointer']}", details["expected"], details["got"])
        except msgspec.DecodeError:
            return InvalidParams(f"{place}/{index}", "an object", kind(msgspec.json.decode(element)))
    return None


def _bad_value(place: str, element_type: Any, elements: Sequence[Raw]) -> InvalidParams | None:
    """What is wrong with the first element of a list of plain values."""
    for index, element in enumerate(elements):
        try:
            msgspec.json.decode(element, type=element_type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return InvalidParams(f"{place}/{index}", words_of(element_type), _got(element, str(error)))
    return None


def _element_type(expected_type: Any) -> Any:
    """What a param is a list of, or None where it is something else."""
    if get_origin(expected_type) is list:
        (element,) = get_args(expected_type)
        return element
    return next(filter(None, map(_element_type, get_args(expected_type))), None)


def _member_types(expected_type: Any) -> tuple[Any, Any] | None:
    if get_origin(expected_type) is dict:
        keys, values = get_args(expected_type)
        return keys, values
    return next(filter(None, map(_member_types, get_args(expected_type))), None)


def _got(raw: Raw, text: str) -> str:
    if "out of range" in text:
        return "a number that is too large"
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "something else"
    if isinstance(value, str) and re.search(r"of length|>=|<=", text) is None:
        return "a string"
    if isinstance(value, str):
        return f"{len(value)} characters"
    if isinstance(value, list) and "of length" in text:
        return f"{len(value)} elements"
    if isinstance(value, dict) and "of length" in text:
        return f"{len(value)} members"
    return excerpt(value) if type(value) in (int, float) else kind(value)


def _is_raw(field_type: Any) -> bool:
    return field_type is Raw or Raw in get_args(field_type)
