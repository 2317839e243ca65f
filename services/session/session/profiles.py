"""Users' profiles, by dialect. Each is a field of the user's hash: a plain command reads or replaces it whole."""

from collections.abc import Callable

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import user_pb2

from session import keys
from session.redis_link import RedisLink


class Profiles:
    """All users' profiles."""

    def __init__(self, link: RedisLink, *, now_us: Callable[[], int]) -> None:
        self._link = link
        self._now_us = now_us

    async def put(self, given: user_pb2.Profile) -> user_pb2.Profile:
        """Stores a profile in place of the one before. Raises: SwitchboardError(UNAVAILABLE)."""
        profile = user_pb2.Profile(user_id=given.user_id, dialect=given.dialect, attributes=given.attributes)
        profile.updated_at.FromMicroseconds(self._now_us())
        await self._link.execute("HSET", keys.profiles(given.user_id), given.dialect, profile.SerializeToString())
        return profile

    async def get(self, user_id: str, dialect: str) -> user_pb2.Profile:
        """Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        stored = await self._link.execute("HGET", keys.profiles(user_id), dialect)
        if stored is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "this user has no profile here")
        return user_pb2.Profile.FromString(stored)

    async def delete(self, user_id: str, dialect: str) -> None:
        """Raises: SwitchboardError(UNAVAILABLE)."""
        await self._link.execute("HDEL", keys.profiles(user_id), dialect)
