"""Server-sent events, read from a byte stream as cheaply as that can be done.

Document: https://html.spec.whatwg.org/multipage/server-sent-events.html. Deviations: only an event's data is given (our
providers repeat its name in it), and a lone CR ends no line (no provider sends one).
"""

MAX_EVENT_BYTES = 1024 * 1024
"""No provider's event comes near it; without a bound, a stream without line ends would fill the memory."""


class EventTooLargeError(ValueError):
    """A single event is larger than `MAX_EVENT_BYTES`."""


class EventReader:
    """Bytes in, the data of whole events out, wherever the cuts lie."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> list[bytes]:
        """The data of each event that these bytes complete, in order. Raises: EventTooLargeError."""
        if self._rest:
            octets = self._rest + octets
        if b"\r" in octets:
            # A CR at the very end stays, and meets its LF in the next bytes.
            octets = octets.replace(b"\r\n", b"\n")
        events = octets.split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError
        return [data for event in events if (data := _data(event))]


def _data(event: bytes) -> bytes:
    # Nearly every event is one data line, or (Anthropic) one event line and one data line.
    if event[:6] == b"data: ":
        if event.find(b"\n") < 0:
            return event[6:]
    elif (at := event.find(b"\ndata: ")) >= 0 and event.find(b"\n", at + 7) < 0:
        return event[at + 7 :]
    lines = [line for line in event.split(b"\n") if line[:5] == b"data:"]
    return b"\n".join(line[6:] if line[5:6] == b" " else line[5:] for line in lines)
