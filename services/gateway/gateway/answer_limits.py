"""Rate limits for answers without a chat, so asked that they can't take those answers down. See `records.Limits`.

When the limits can't be asked, the answer is made: it needs neither the session service nor Redis, its caller has shown
a good credential, and refusing everybody is a worse outage than counting nobody for a while. Giving back an answer's
place waits for nobody: it is done as connections end, where nothing more can be waited for.
"""

import asyncio
import logging

from chat.errors import ErrorCode, SwitchboardError

from gateway.ports import RateLimit
from gateway.records import Limits

log = logging.getLogger(__name__)


class AnswerLimits:
    """Adapter of `records.Limits` over the session service's. `tasks` owns what goes on in the background."""

    def __init__(self, limits: Limits, tasks: asyncio.TaskGroup) -> None:
        self._limits = limits
        self._tasks = tasks
        self._failing = False

    async def acquire(self, *, user_id: str, key_id: str, answer_id: str, lasts_s: float) -> RateLimit | None:
        """Counts a message and an answer under way; None: limits are off, or can't be asked. Raises: RATE_LIMITED."""
        try:
            limit = await self._limits.acquire(user_id=user_id, key_id=key_id, answer_id=answer_id, lasts_s=lasts_s)
        except SwitchboardError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                raise
            if not self._failing:
                log.warning("limits_unavailable", extra={"code": error.code.name})
            self._failing = True
            return None
        self._failing = False
        return limit

    async def release(self, *, user_id: str, key_id: str, answer_id: str) -> None:
        """The answer is over. Never waits, and so is never cut short."""
        self._tasks.create_task(self._release(user_id, key_id, answer_id))

    async def _release(self, user_id: str, key_id: str, answer_id: str) -> None:
        try:
            await self._limits.release(user_id=user_id, key_id=key_id, answer_id=answer_id)
        except SwitchboardError as error:
            # It counts as over by itself in time.
            log.info("limit_not_released", extra={"code": error.code.name})
