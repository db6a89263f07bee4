"""docs/reference/settings.md and hoverboard.example.toml, from `Settings` and `Serving`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import annotated_types
import msgspec
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.generate.markdown import Row, capital, sentence, table
from hoverboard.config import CONFIG_FILE, ENV_PREFIX, Settings
from hoverboard.versions.serving import Serving

__all__ = ["example_file", "page"]

_UNITS: Final = {"_s": "seconds", "_ms": "milliseconds", "_mb": "MiB", "_bytes": "bytes", "_days": "days"}


def example_file() -> str:
    """hoverboard.example.toml."""
    head = (
        f"# Every setting with its default, commented out. Copy to {CONFIG_FILE} in the directory you serve from.\n"
        f"# A flag of `hoverboard serve` wins over the environment ({ENV_PREFIX}PORT=9000), and that over this file.\n"
    )
    entries = [
        textwrap.fill(sentence(field.description), 118, initial_indent="# ", subsequent_indent="# ", **_WHOLE)
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


def page() -> str:
    """Settings, and the keys of serving.toml."""
    rows = [
        [f"`{name}`", _given_by(name), _default(field.default), _allowed(name, field), sentence(field.description)]
        for name, field in Settings.model_fields.items()
    ]
    return f"""# Settings

Each setting can be given in three places. The first that has it wins:

1. a flag of `hoverboard serve`: `--api-workers 2`; `--journal-fsync` and `--no-journal-fsync` where the values are `true` and `false`
2. an environment variable: `{ENV_PREFIX}API_WORKERS=2`
3. a line in `{CONFIG_FILE}` in the working directory: `api_workers = 2`; `hoverboard.example.toml` has every line

{table(["setting", "flag and environment variable", "default", "values", "meaning"], rows)}
## Keys of serving.toml

`serving.toml` in a model's folder is optional, and so is every key. A change is noticed within `scan_interval_s`. A file that is
malformed changes nothing: the last good one stays in force. [Swap and roll back](../versions.md#servingtoml) shows how it is used.

{table(["key", "default", "meaning"], _serving_rows())}"""


def _serving_rows(struct: type[msgspec.Struct] = Serving, prefix: str = "") -> Iterator[Row]:
    """The keys of one table of the file, then those of the tables within it."""
    meanings, fields = _attributes(struct), msgspec.structs.fields(struct)
    inner = {field.name: type(field.default) for field in fields if isinstance(field.default, msgspec.Struct)}
    for field in fields:
        if field.name not in inner:
            default = "none" if field.default in (None, ()) else f"`{_plain(field.default)}`"
            yield [f"`{prefix}{field.name}`", default, capital(meanings[field.name]) + "."]
    for name, keys in inner.items():
        yield from _serving_rows(keys, f"{name}.")


def _attributes(cls: type) -> dict[str, str]:
    """What the section `Attributes` of a docstring says of each."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: sentence(text).rstrip(".") for name, text in entries}


def _default(value: Any) -> str:
    return f"`{_plain(value)}`" if _plain(value) else "empty"


def _plain(value: Any) -> str:
    if isinstance(value, SecretStr):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _given_by(name: str) -> str:
    """The flag and the variable, though both follow from the name: somebody looks for just these."""
    return f"`--{name.replace('_', '-')}` `{ENV_PREFIX}{name.upper()}`"


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
