"""Structured logs: one JSON object a line on standard error, an event's name and its fields.

Fields hold ids, names, counts and times; never a prompt, an answer, a key or a token.
"""

import logging
import sys
import time
from typing import Any, TextIO

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """Writes a record's message as `event`, beside time, level, service and the fields given as `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
            "logger": record.name,
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD and key != "message")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(service: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Sends every logger of this process to `stream`. `level`: debug, info, warning or error."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their lines at info say each request and each URL; URLs can hold tokens.
    for name in ("httpx", "httpx2", "httpcore", "openai", "anthropic", "aiohttp", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
