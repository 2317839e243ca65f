"""A line that a child wrote, read: level, service, event and fields; and how it looks on a person's terminal.

Our services write JSON (`runtime.logs`), Valkey its own format, the simulator plain text; whatever fits none of them
(a warning, a traceback of the interpreter) is kept word for word.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

READY = "ready"
"""The event that says that a process takes work."""

_STANDARD = frozenset({"time", "level", "service", "event", "logger", "exception"})
_PLAIN = re.compile(r"[\w.:/@+,%-]+")
_VALKEY = re.compile(r"\d+:[A-Z] \d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3} ([.\-*#]) (.*)")
_VALKEY_LEVELS = {".": "debug", "-": "debug", "*": "info", "#": "warning"}
_VALKEY_NOISE = (
    "Memory overcommit must be enabled",  # advice for servers of many gigabytes, which needs root
    "User requested shutdown",
    "is now ready to exit",
)
_SIMULATOR_READY = re.compile(r"simulator listening on http://.*:(\d+)$")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `raw` is what was written, without its end."""

    service: str
    level: str
    event: str
    raw: str
    fields: Mapping[str, object] = field(default_factory=dict)
    exception: str = ""


def read_json(service: str, raw: str) -> LogLine:
    """A line of one of our services."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return LogLine(service, "info", raw, raw)
    if not isinstance(value, dict) or "event" not in value:
        return LogLine(service, "info", raw, raw)
    fields = {name: each for name, each in value.items() if name not in _STANDARD}
    exception = str(value.get("exception", ""))
    return LogLine(service, str(value.get("level", "info")), str(value["event"]), raw, fields, exception)


def read_valkey(service: str, raw: str) -> LogLine:
    """A line of Valkey's. What it says at notice, it says at debug to us: it is chatty."""
    match = _VALKEY.match(raw)
    if match is None:
        return LogLine(service, "debug", raw, raw)
    level, event = _VALKEY_LEVELS[match[1]], match[2]
    if event.startswith("Ready to accept connections"):
        return LogLine(service, "info", READY, raw)
    if level == "info" or any(each in event for each in _VALKEY_NOISE):
        level = "debug"
    return LogLine(service, level, event.removeprefix("WARNING "), raw)


def read_simulator(service: str, raw: str) -> LogLine:
    """A line of the simulator's."""
    match = _SIMULATOR_READY.match(raw)
    if match is None:
        return LogLine(service, "info", raw, raw)
    return LogLine(service, "info", READY, raw, {"port": int(match[1])})


def render(line: LogLine, moment: str) -> str:
    """One readable line: time, level, service, event, fields; an exception's traceback is indented below."""
    words = [moment, f"{line.level:<7}", f"{line.service:<10}", line.event]
    words += [f"{name}={_render_value(value)}" for name, value in line.fields.items()]
    text = _printable(" ".join(words))
    if line.exception:
        text += "".join(f"\n    {_printable(each)}" for each in line.exception.splitlines())
    return text


def _render_value(value: object) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _printable(text: str) -> str:
    """Without control characters: a log line must not drive the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
