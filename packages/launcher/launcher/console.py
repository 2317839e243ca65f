"""What a person sees of `make run`: progress, the services' lines, one sentence when it goes wrong.

What is announced goes to standard output, everything else to standard error. While the system starts, the services'
lines are kept back: what matters then is whether it comes up, and when it does not, the one sentence that says why.
"""

import os
import time
from contextlib import suppress
from typing import TextIO

import orjson

from launcher.log_line import READY, LogLine, render

_LEVELS = ("debug", "info", "warning", "error", "critical")
MAX_HELD_LINES = 1000


class Console:
    """`json`: lines are passed on as they were written, and our own are JSON too. `level`: the least that is shown of
    the services; one that is none is for them to complain about."""

    def __init__(self, out: TextIO, err: TextIO, *, json: bool, level: str) -> None:
        self._out = out
        self._err = err
        self._json = json
        self._shown = frozenset(_LEVELS[_LEVELS.index(level) :] if level in _LEVELS else _LEVELS[1:])
        self._held: list[str] | None = []

    def show(self, line: LogLine) -> None:
        """A child's line."""
        if line.level not in self._shown:
            return
        if self._json:
            text = line.raw if line.raw.startswith("{") else _as_json(line.service, line.level, line.event)
        elif line.event == READY:
            return
        else:
            text = render(line, time.strftime("%H:%M:%S"))
        if self._held is None:
            self._write(self._err, text)
        elif len(self._held) < MAX_HELD_LINES:
            self._held.append(text)

    def release(self) -> None:
        """The start is over: what was kept back is shown, and from now on everything at once."""
        held, self._held = self._held, None
        for text in held or ():
            self._write(self._err, text)

    def notice(self, sentence: str, level: str = "info") -> None:
        """Something that the launcher itself did or saw."""
        if self._json:
            self._write(self._err, _as_json("launcher", level, sentence))
        else:
            self._write(self._err, f"{time.strftime('%H:%M:%S')} {level:<7} {'launcher':<10} {sentence}")

    def fail(self, sentence: str) -> None:
        """Why there is no system."""
        if self._json:
            self.notice(sentence, "error")
        else:
            self._write(self._err, f"switchboard: {sentence}")

    def announce(self, text: str) -> None:
        self._write(self._out, text)

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more (`make run | head`): the system runs on, and so does Python's flush at the end.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _as_json(service: str, level: str, event: str) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return orjson.dumps({"time": moment, "level": level, "service": service, "event": event}).decode()
