"""Whether a gateway takes traffic: its `/readyz`, asked until it says so."""

import asyncio
from urllib.parse import urlsplit

POLL_S = 0.02
ANSWER_TIMEOUT_S = 2.0


async def wait_serving(url: str, timeout_s: float) -> None:
    """Returns when `url`'s `/readyz` answers 200. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await is_serving(url):  # noqa: ASYNC110  (another process can't set an event here)
            await asyncio.sleep(POLL_S)


async def is_serving(url: str) -> bool:
    """One question, answered within `ANSWER_TIMEOUT_S` or taken for a no."""
    parts = urlsplit(url)
    request = f"GET /readyz HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status[1:2] == [b"200"]
