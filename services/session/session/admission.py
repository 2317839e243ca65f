"""BeginTurn under limits: a message is counted, then appended; what was not appended is not counted.

It is counted first, so that a message within its limits costs one round trip more and no other. A repeat by
idempotency key is found only by appending: it is given back then. Where the limit is used up a repeat is looked for,
and answered; nothing is appended.
Where the limits' own part of Redis is out of reach, or slow, messages go uncounted: limits protect chats, and must not
end them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import limit_pb2, session_pb2

from session.dispatcher import Dispatcher
from session.limiter import Acquired, Limiter, Subject, Use, turn_use
from session.roles import Asker
from session.turns import LONGEST_S, Begun, TurnName, Turns

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""For the limits of one message. Where their Redis does not answer, time must be left to append the message within a
caller's ten seconds or so."""


def subjects_of(user_id: str, key_id: str) -> list[Subject]:
    """Who is limited; who is not named is not."""
    return [Subject(kind, name) for kind, name in (("user", user_id), ("key", key_id)) if name]


class Admission:
    """Before the dispatcher. `max_waiting`: turns that may wait in a chat."""

    def __init__(
        self, limiter: Limiter, turns: Turns, dispatcher: Dispatcher, *, new_id: Callable[[], str], max_waiting: int
    ) -> None:
        self._limiter = limiter
        self._turns = turns
        self._dispatcher = dispatcher
        self._new_id = new_id
        self._max_waiting = max_waiting

    async def begin(
        self, request: session_pb2.BeginTurnRequest, limit_s: float, subjects: Sequence[Subject], asker: Asker
    ) -> tuple[Begun, limit_pb2.RateLimit | None]:
        """What was begun, and how the nearest limit stands. Raises: as Dispatcher.begin; RATE_LIMITED."""
        turn_id = "" if request.without_answer else self._new_id()
        try:
            acquired = await self._acquire(request, limit_s, subjects, turn_id)
        except SwitchboardError:
            repeated = await self._turns.repeated(request, asker)
            if repeated is None:
                raise
            return repeated, None
        try:
            begun = await self._dispatcher.begin(request, limit_s, turn_id, asker)
        except SwitchboardError as error:
            # UNAVAILABLE: it may have begun. If not, its answer is found to be none.
            if acquired is not None and error.code is not ErrorCode.UNAVAILABLE:
                await self._give_back(acquired)
            raise
        if begun.repeated and acquired is not None:
            await self._give_back(acquired)
            acquired = None
        return begun, acquired.standing if acquired is not None else None

    async def _acquire(
        self,
        request: session_pb2.BeginTurnRequest,
        limit_s: float,
        subjects: Sequence[Subject],
        turn_id: str,
    ) -> Acquired | None:
        """What was counted; None: limits are out of reach. Raises: SwitchboardError(RATE_LIMITED)."""
        use = Use("", 0)
        if turn_id:
            # Behind as many turns as may be ahead of it, each as long as any may be.
            lasts_s = limit_s + self._max_waiting * LONGEST_S
            use = turn_use(TurnName(request.chat_id, turn_id), round(lasts_s * 1000))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._limiter.acquire(subjects, use)
        except TimeoutError:
            log.warning("limits_unavailable")
        except SwitchboardError as error:
            if error.code is not ErrorCode.UNAVAILABLE:
                raise
            log.warning("limits_unavailable")
        return None

    async def _give_back(self, acquired: Acquired) -> None:
        try:
            await self._limiter.give_back(acquired)
        except SwitchboardError:
            # It counts until its time is over.
            log.warning("limits_unavailable")
