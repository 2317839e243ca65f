"""`python -m launcher log CHAT`: a chat's log, readable, whether the system runs or not.

The session service's own tool prints it (`session.print_log`); this finds the Redis for it: REDIS_URL, else the
embedded one that runs on the data directory, else one started for the moment.
"""

import asyncio
import os
import sys

from launcher.data_dir import is_in_use
from launcher.settings import Settings
from launcher.stack import Stack
from launcher.valkey import configured_url


class NoChatsError(OSError):
    """There is no data directory to read from; the text is one sentence."""


async def print_chat_log(chat: str, settings: Settings) -> int:
    """Prints to standard output; returns the exit code. Raises: NoChatsError, and what Stack raises."""
    redis_directory = settings.data_dir / "redis"
    if settings.redis_url:
        return await _print(chat, settings.redis_url)
    if not redis_directory.is_dir():
        raise NoChatsError(f"SWITCHBOARD_DATA_DIR: there are no chats in {settings.data_dir}")
    if is_in_use(settings.data_dir):
        return await _print(chat, configured_url(redis_directory))
    async with Stack(sessions=0, workers=0, gateways=0, simulator=False, data_dir=settings.data_dir) as stack:
        return await _print(chat, stack.redis_url)


async def _print(chat: str, redis_url: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "session.print_log", chat), env={**os.environ, "REDIS_URL": redis_url}
    )
    return await process.wait()
