"""The configuration file: `switchboard.toml` beside this module holds every key, its default and what it means.

An operator changes it in two ways, the later one winning: a file named by `SWITCHBOARD_CONFIG`, whose tables are laid
over the defaults key by key; and single values in the environment, `SWITCHBOARD__TABLE__KEY=value` (upper or lower
case; `__` goes one table down; the value as TOML writes it, or a plain text). A key that the defaults do not know is an
error that names it, and so is a value of another type: a typing mistake never goes unnoticed. A list replaces the
default's list.

It knows no service: what the values mean is said where they are read, in each service's `settings.py`. Secrets have no
place in it. See docs/subsystems/runtime.md.
"""

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

from runtime.environment import SettingError

Table = Mapping[str, Any]

FILE_VARIABLE = "SWITCHBOARD_CONFIG"
VALUE_PREFIX = "SWITCHBOARD__"

OPEN_TABLES = frozenset({"providers", "models", "routes", "personas"})
"""Tables whose entries an operator names: a new entry may hold whatever any entry of the default table holds."""


def load(variables: Mapping[str, str]) -> Table:
    """The defaults, the operator's file over them, the environment's values over both. Raises: SettingError."""
    config = tomllib.loads(resources.files("runtime").joinpath("switchboard.toml").read_text("utf-8"))
    shape = deepcopy(config)
    path = variables.get(FILE_VARIABLE, "").strip()
    if path:
        _lay_over(config, _read(path), shape, source=path)
    for name in sorted(variables):
        if name.startswith(VALUE_PREFIX) and variables[name].strip():
            _lay_over(config, _value_table(name, variables[name].strip(), shape), shape, source=name)
    return config


def _read(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as exc:
        raise SettingError(f"{FILE_VARIABLE}: cannot read {path!r}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingError(f"{FILE_VARIABLE}: {path!r} is not TOML: {exc}") from exc


def _value_table(name: str, text: str, shape: Table) -> dict[str, Any]:
    """One variable as the nested table that a file would hold."""
    known: Any = shape
    keys: list[str] = []
    for word in name.removeprefix(VALUE_PREFIX).split("__"):
        # Variables are upper case by custom, and keys are not: the key that differs in nothing else is meant.
        children = known if isinstance(known, Mapping) else {}
        key = next((key for key in children if key.lower() == word.lower()), word.lower())
        known = _entry_shape(shape, keys[0], key) if keys and keys[-1] in OPEN_TABLES else children.get(key)
        keys.append(key)
    value: Any = text if isinstance(known, str) else _scalar(text)
    for key in reversed(keys):
        value = {key: value}
    table: dict[str, Any] = value
    return table


def _scalar(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _entry_shape(shape: Table, table: str, name: str) -> Any:
    """What the entry `name` of an open table may hold: what any of the default entries holds."""
    entries = shape[table]
    merged: dict[str, Any] = {}
    for entry in entries.values():
        if not isinstance(entry, Mapping):
            return entries.get(name, entry)
        merged = {**entry, **merged}
    return {**merged, **entries.get(name, {})}


def _lay_over(config: dict[str, Any], table: Table, shape: Table, *, source: str, path: str = "") -> None:
    for key, value in table.items():
        full = f"{path}.{key}" if path else key
        if path in OPEN_TABLES:
            expected = _entry_shape({path: shape}, path, key)
        elif key in shape:
            expected = shape[key]
        else:
            raise SettingError(f"{source}: unknown key {full!r}; known here are {', '.join(sorted(shape))}")
        if isinstance(expected, Mapping):
            if not isinstance(value, Mapping):
                raise SettingError(f"{source}: {full!r} must be a table")
            _lay_over(config.setdefault(key, {}), value, expected, source=source, path=full)
        else:
            config[key] = _typed(value, expected, full, source)


def _typed(value: Any, expected: Any, path: str, source: str) -> Any:
    if isinstance(expected, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(expected):
        noun = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
        raise SettingError(f"{source}: {path!r} must be {noun.get(type(expected), 'of another type')}")
    if isinstance(expected, list) and not all(isinstance(item, str) for item in value):
        raise SettingError(f"{source}: {path!r} must be a list of texts")
    return value
