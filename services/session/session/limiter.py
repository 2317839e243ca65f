"""Rate limits of users and clients' keys: messages by GCRA, answers under way by a bound, tokens by the day.

What can be reached together (all of one server; one partition of a cluster) is decided by one atomic script. A user and
a key lie in different partitions, so on a cluster each is asked, both at once, and what one has counted is given back
when the other refuses: for that moment a third caller may be refused who need not have been; nobody is let through who
must not be.

Ended turns are not reported here: that would cost every answer a round trip. They are looked up when a subject seems to
have as many answers under way as it may. See docs/subsystems/limits.md.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import limit_pb2, session_pb2

from session import keys, scripts
from session.redis_link import RedisLink, pack
from session.settings import Limit
from session.turns import TurnName, Turns

log = logging.getLogger(__name__)

BEGINNING_MS = 20_000
"""A turn that can't be found may not have begun yet: for so long it counts as under way. Four times what a command to
Redis may take, and less than the 30 s after which who died counts no longer."""
_LOOK_PATIENCE_S = 0.3
"""For where one turn stands. A shard that is frozen must not keep the decision for longer than its caller waits: what
is not known is under way."""
_BUSY_RETRY_S = 1.0
"""Nobody knows when an answer ends."""
_ENDED = (session_pb2.TURN_STATE_COMPLETED, session_pb2.TURN_STATE_FAILED, session_pb2.TURN_STATE_CANCELLED)


@dataclass(frozen=True, slots=True)
class Subject:
    """One who is limited. `kind`: the limit's name in the configuration."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Use:
    """One message, and the answer that it asks for; `answer` is empty where none is.

    An answer that is a turn's is named by `turn_use`, so that its end can be looked up; another one is released.
    """

    answer: str
    lasts_ms: int


@dataclass(frozen=True, slots=True)
class Acquired:
    """What was counted, for `give_back`. `standing`: the nearest limit, and how it stands; None: no limits."""

    use: Use
    counted: tuple[tuple[Subject, bool], ...]
    standing: limit_pb2.RateLimit | None


@dataclass(frozen=True, slots=True)
class _Refused:
    """By one group: messages, or the day's tokens (`spent`), are used up for `wait_us`, or else too many answers are
    under way.

    `answers`: each with its latest end, `at_ms` being now; all by Redis' clock.
    """

    subject: Subject
    wait_us: int = 0
    spent: bool = False
    at_ms: int = 0
    answers: tuple[tuple[str, int], ...] = ()


def turn_use(name: TurnName, lasts_ms: int) -> Use:
    """A turn's message and answer."""
    return Use(f"{name.chat_id}|{name.turn_id}|{lasts_ms}", lasts_ms)


class Limiter:
    """All limits of all subjects. `limits`: by kind; none: nobody is limited."""

    def __init__(self, link: RedisLink, turns: Turns, limits: Mapping[str, Limit]) -> None:
        self._link = link
        self._turns = turns
        self._limits = limits
        self._looks: dict[Subject, asyncio.Task[None]] = {}

    async def acquire(self, subjects: Sequence[Subject], use: Use) -> Acquired:
        """Counts a message and its answer against all subjects, or none of them.

        Raises: SwitchboardError(RATE_LIMITED, UNAVAILABLE: some may have counted).
        """
        limited = [subject for subject in subjects if subject.kind in self._limits]
        looked: set[Subject] = set()
        while True:
            acquired, refused = await self._try(limited, use)
            if refused is None:
                return acquired
            if acquired.counted:
                await self.give_back(acquired)
            if not refused.answers or refused.subject in looked:
                raise self._refusal(refused)
            looked.add(refused.subject)
            await self._look_once(refused)

    async def give_back(self, acquired: Acquired) -> None:
        """Nothing came of it: neither message nor answer count. Raises: SwitchboardError(UNAVAILABLE)."""

        async def give(group: Sequence[tuple[Subject, bool]]) -> None:
            given = [
                [acquired.use.answer if new else "", self._limits[subject.kind].interval_us] for subject, new in group
            ]
            await self._link.run(scripts.GIVE_BACK, [_root(subject) for subject, _ in group], pack(given))

        await asyncio.gather(*map(give, self._link.groups(acquired.counted, lambda counted: counted[0].id)))

    async def release(self, subjects: Sequence[Subject], answer: str) -> None:
        """The answer is under way no longer. Raises: SwitchboardError(UNAVAILABLE)."""
        await asyncio.gather(*(self._link.execute("ZREM", f"{_root(subject)}:answers", answer) for subject in subjects))

    async def _try(self, subjects: Sequence[Subject], use: Use) -> tuple[Acquired, _Refused | None]:
        """What was counted, and who refused the rest."""

        async def ask(group: Sequence[Subject]) -> list[tuple[Subject, bool, int]] | _Refused:
            limits = [self._limits[subject.kind] for subject in group]
            numbers = [[limit.interval_us, limit.messages, limit.answers, limit.tokens_a_day] for limit in limits]
            outcome, *rest = await self._link.run_packed(
                scripts.ACQUIRE, [_root(subject) for subject in group], pack([use.answer, use.lasts_ms, numbers])
            )
            match outcome:
                case b"ok":
                    return [
                        (subject, bool(new), int(ahead_us))
                        for subject, (ahead_us, new) in zip(group, rest[0], strict=True)
                    ]
                case b"sent" | b"spent":
                    return _Refused(group[rest[0] - 1], wait_us=int(rest[1]), spent=outcome == b"spent")
                case _:
                    index, at_ms, flat = rest
                    answers = tuple((flat[i].decode(), int(flat[i + 1])) for i in range(0, len(flat), 2))
                    return _Refused(group[index - 1], at_ms=int(at_ms), answers=answers)

        groups = self._link.groups(subjects, lambda subject: subject.id)
        outcomes = await asyncio.gather(*map(ask, groups), return_exceptions=True)
        refused: _Refused | None = None
        counted: list[tuple[Subject, bool]] = []
        standing: limit_pb2.RateLimit | None = None
        failed: BaseException | None = None
        for outcome in outcomes:
            match outcome:
                case _Refused():
                    refused = outcome
                case BaseException():
                    failed = outcome
                case _:
                    for subject, new, ahead_us in outcome:
                        counted.append((subject, new))
                        stands = self._standing(subject, ahead_us)
                        if standing is None or stands.remaining < standing.remaining:
                            standing = stands
        if failed is not None and refused is None:
            raise failed
        return Acquired(use, tuple(counted), standing), refused

    def _standing(self, subject: Subject, ahead_us: int) -> limit_pb2.RateLimit:
        limit = self._limits[subject.kind]
        stands = limit_pb2.RateLimit(
            name=subject.kind,
            quota=limit.messages,
            remaining=(limit.interval_us * limit.messages - ahead_us) // limit.interval_us,
        )
        stands.window.FromMicroseconds(round(limit.window_s * 1_000_000))
        stands.reset.FromMicroseconds(ahead_us)
        return stands

    def _refusal(self, refused: _Refused) -> SwitchboardError:
        limit, kind = self._limits[refused.subject.kind], refused.subject.kind
        if refused.answers:
            message = f"too many answers are under way for this {kind}: {limit.answers} may be; wait for one to end"
            return SwitchboardError(ErrorCode.RATE_LIMITED, message, retry_after_s=_BUSY_RETRY_S)
        retry_after_s = refused.wait_us / 1_000_000
        if refused.spent:
            message = f"today's budget of {limit.tokens_a_day:,} tokens is used up; it begins anew at 00:00 UTC"
            return SwitchboardError(ErrorCode.RATE_LIMITED, message, retry_after_s=retry_after_s)
        message = f"too many messages from this {kind}: {limit.messages} in {limit.window_s:g} s may be; wait a moment"
        return SwitchboardError(ErrorCode.RATE_LIMITED, message, retry_after_s=retry_after_s)

    async def _look_once(self, refused: _Refused) -> None:
        """Drops a subject's answers that have ended. Many who ask at once look once: a refusal must not cost much."""
        look = self._looks.get(refused.subject)
        if look is None:
            look = self._looks[refused.subject] = asyncio.create_task(self._look(refused))

            def done(task: "asyncio.Task[None]") -> None:
                del self._looks[refused.subject]
                if not task.cancelled() and task.exception() is not None:
                    log.debug("limits_look_failed")

            look.add_done_callback(done)
        await asyncio.shield(look)

    async def _look(self, refused: _Refused) -> None:
        over = await asyncio.gather(*(self._is_over(*answer, refused.at_ms) for answer in refused.answers))
        ended = [answer for (answer, _), is_over in zip(refused.answers, over, strict=True) if is_over]
        if ended:
            await self._link.execute("ZREM", f"{_root(refused.subject)}:answers", *ended)

    async def _is_over(self, answer: str, end_ms: int, at_ms: int) -> bool:
        chat_id, _, rest = answer.partition("|")
        turn_id, _, lasts_ms = rest.partition("|")
        if not turn_id:
            return False
        try:
            async with asyncio.timeout(_LOOK_PATIENCE_S):
                state = (await self._turns.get(TurnName(chat_id, turn_id))).state
        except TimeoutError:
            return False
        except SwitchboardError as error:
            acquired_ms = end_ms - int(lasts_ms)
            return error.code is ErrorCode.NOT_FOUND and at_ms > acquired_ms + BEGINNING_MS
        return state in _ENDED


def _root(subject: Subject) -> str:
    return keys.limited(subject.kind, subject.id)
