"""Turns: claimed from the session service over one `ClaimTurns` stream, answered, published, kept alive.

Credit says how many more this worker can take; every lease is renewed every three seconds; a revoked one ends its
provider's call at once. A turn that `StartTurn` claims goes the same way. What a turn comes to is said by its events
alone; when this process dies, its leases expire, and another worker takes the turns over.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
import grpc.aio
from chat import codec
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.messages import Answer, AnswerState, Message, Role
from runtime.rpc_channel import Metadata
from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import session_pb2, session_pb2_grpc

from llm_worker.answer import Asking, answer
from llm_worker.briefing import Briefer, Briefing
from llm_worker.context import Said, choose_persona, question_of_turn
from llm_worker.long_stream import SILENCE_S, StreamBrokenError, keep_open, read
from llm_worker.own_target import NO_KEYS
from llm_worker.provider import ToolCallDelta
from llm_worker.publisher import Publisher
from llm_worker.route import Routes
from llm_worker.settings import Settings
from llm_worker.turn_log import TurnLog
from llm_worker.usage import UsageRecorder
from llm_worker.user_keys import UserKeys

log = logging.getLogger(__name__)

RENEW_S = 3.0
"""A lease lasts 10 s: two renewals may be lost before it does."""

GATHER_S = 0.1
"""Turns that end within it give their credit back in one request, while there is plenty left: a request costs more than
anything else at a turn's end, on both sides."""

CLAIM_TIMEOUT_S = 5.0
_ROLES = {role.value: role for role in Role}
BROKEN = Failure(ErrorCode.INTERNAL, "Something went wrong on our side; try again.")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from."""

    monotonic: Callable[[], float]
    """Seconds that never go back: the running loop's."""
    wall_us: Callable[[], int]
    """Microseconds since 1970."""


class TurnRunner:
    """All turns of this process. `run` must run; it ends when it is cancelled, and leaves the leases to expire."""

    def __init__(
        self,
        *,
        worker_id: str,
        settings: Settings,
        routes: Routes,
        asking: Asking,
        user_keys: UserKeys,
        recorder: UsageRecorder,
        session: "session_pb2_grpc.SessionServiceAsyncStub",
        metadata: Metadata,
        publisher: Publisher,
        briefer: Briefer,
        clocks: Clocks,
    ) -> None:
        self._worker_id = worker_id
        self._settings = settings
        self._routes = routes
        self._asking = asking
        self._user_keys = user_keys
        self._recorder = recorder
        self._session = session
        self._metadata = metadata
        self._publisher = publisher
        self._briefer = briefer
        self._clocks = clocks
        self._tasks: asyncio.TaskGroup | None = None
        self._turns: dict[str, tuple[session_pb2.Lease, asyncio.Task[None]]] = {}
        self._credit = 0
        """Given to the session service and not used yet."""
        self._draining = False
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._call: Any = None

    async def run(self) -> None:
        """Claims and answers turns for as long as it is not cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await keep_open("claim", self._claim)

    async def start_turn(self, chat_id: str, turn_id: str) -> bool:
        """Claims a turn now; whether this worker has it. Raises: SwitchboardError."""
        if self._tasks is None or self._draining or len(self._turns) >= self._settings.max_turns:
            raise SwitchboardError(ErrorCode.OVERLOADED, "This worker takes no more turns now.", retry_after_s=1.0)
        # Shielded: a claim whose caller has gone would leave its turn standing until the lease expires.
        claimed = await asyncio.shield(self._tasks.create_task(self._claim_one(chat_id, turn_id)))
        if isinstance(claimed, SwitchboardError):
            raise claimed
        return claimed

    async def drain(self, grace_s: float) -> None:
        """Takes no more turns, waits for those under way, `grace_s` at the most, and gives up the rest."""
        self._draining = True
        if self._call is not None:
            # Credit can't be taken back but with the stream it was given over.
            self._call.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        # What is left is another worker's to go on with; what it has cost here is to be told before the end.
        left = [task for _, task in self._turns.values()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _claim_one(self, chat_id: str, turn_id: str) -> bool | SwitchboardError:
        """Returns its error: a task that raised one would end all others of its group."""
        request = session_pb2.ClaimTurnRequest(chat_id=chat_id, turn_id=turn_id, worker_id=self._worker_id)
        try:
            response = await self._session.ClaimTurn(request, metadata=self._metadata, timeout=CLAIM_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            match exc.code():
                case grpc.StatusCode.NOT_FOUND:
                    return False
                case grpc.StatusCode.INVALID_ARGUMENT:
                    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, "This can't be an id.", field="chat_id")
                case _:
                    # Whoever waits for the answer loses nothing: the turn is handed out, or its lease expires.
                    return SwitchboardError(ErrorCode.UNAVAILABLE, "The session service can't be reached; try again.")
        self._begin(response.turn)
        return True

    async def _claim(self) -> None:
        """One `ClaimTurns` stream, to its end."""
        self._credit = 0
        call = self._call = self._session.ClaimTurns(metadata=self._metadata)
        try:
            async with asyncio.TaskGroup() as tasks:
                heard = _Heard(self._clocks.monotonic)
                tasks.create_task(self._receive(call, heard))
                tasks.create_task(self._report(call, heard))
        finally:
            call.cancel()

    async def _report(self, call: Any, heard: "_Heard") -> None:
        """Sends credit as turns end, and renewals as time passes."""
        renew_at = self._clocks.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, renew_at - self._clocks.monotonic())):
                    await self._changed.wait()
            if self._credit > self._settings.max_turns // 2:
                await asyncio.sleep(GATHER_S)
            self._changed.clear()
            request = session_pb2.ClaimTurnsRequest(worker_id=self._worker_id, credit=self._new_credit())
            if self._clocks.monotonic() >= renew_at:
                request.renew.extend(lease for lease, _ in self._turns.values())
                renew_at = self._clocks.monotonic() + RENEW_S
                if request.renew:
                    heard.check()
            await call.write(request)

    def _new_credit(self) -> int:
        """How many more turns can be taken. `StartTurn` may have used what was given: then it is made good first."""
        free = 0 if self._draining else self._settings.max_turns - len(self._turns) - self._credit
        more = max(0, free)
        self._credit += more
        return more

    async def _receive(self, call: Any, heard: "_Heard") -> None:
        while True:
            response = await read(call)
            heard.response(empty=not response.claimed and not response.revoked)
            for turn in response.claimed:
                self._credit = max(0, self._credit - 1)
                self._begin(turn)
            # Behind the claims: one that was stopped at once may stand in the same response.
            for lease in response.revoked:
                held = self._turns.get(lease.turn_id)
                if held is not None and held[0].lease_id == lease.lease_id:
                    held[1].cancel()

    def _begin(self, turn: session_pb2.ClaimedTurn) -> None:
        if self._tasks is None:
            raise RuntimeError("the runner does not run")
        turn_id = turn.lease.turn_id
        earlier = self._turns.get(turn_id)
        if earlier is not None:
            # Our own lease on it has run out, and we were given it again.
            earlier[1].cancel()
        task = self._tasks.create_task(self._run_turn(turn))
        self._turns[turn_id] = (turn.lease, task)
        self._idle.clear()
        task.add_done_callback(lambda task: self._ended(turn_id, task))

    def _ended(self, turn_id: str, task: asyncio.Task[None]) -> None:
        held = self._turns.get(turn_id)
        if held is not None and held[1] is task:
            del self._turns[turn_id]
        if not self._turns:
            self._idle.set()
        self._changed.set()

    async def _run_turn(self, turn: session_pb2.ClaimedTurn) -> None:
        started_at = self._clocks.monotonic()
        turn_log = TurnLog(turn.lease, turn.answer_id, text_before=turn.text if turn.started else None)
        _, answering = self._turns[turn.lease.turn_id]

        def stop_if_lost(done: asyncio.Future[bool]) -> None:
            if not done.cancelled() and not done.result():
                answering.cancel()

        turn_log.done.add_done_callback(stop_if_lost)
        try:
            async with self._publisher.publishing(turn_log):
                try:
                    made = await self._answer(turn, turn_log, started_at)
                except SwitchboardError as exc:
                    made = Answer(AnswerState.FAILED, failure=exc.failure, duration_s=self._since(started_at))
                except Exception:  # a turn's boundary: it ends in one of the three states, whatever our code did
                    log.exception("turn broken", extra=_ids(turn))
                    made = Answer(AnswerState.FAILED, failure=BROKEN, duration_s=self._since(started_at))
                turn_log.end(made)
                self._publisher.wake(turn_log)
                # Until the lease is lost, at the latest: then the publisher is told so.
                await asyncio.shield(turn_log.done)
        except asyncio.CancelledError:
            # The end of this task, and not raised further: a cancelled task keeps its exception, whose frames hold the
            # task. In that circle a stopped turn's whole context would wait for a full collection.
            log.info("turn given up", extra=_ids(turn))
            return
        log.info(
            "turn ended",
            extra={
                **_ids(turn),
                "state": made.state.name.lower(),
                "provider": made.provider,
                "model": made.model,
                "attempts": len(made.attempts),
                "failure": made.failure.code.name.lower() if made.failure else None,
                "duration_ms": round(made.duration_s * 1000),
            },
        )

    def _since(self, started_at: float) -> float:
        return self._clocks.monotonic() - started_at

    async def _answer(self, turn: session_pb2.ClaimedTurn, turn_log: TurnLog, started_at: float) -> Answer:
        settings = codec.settings_from_proto(turn.answers)
        persona = choose_persona(self._settings.personas, settings, turn.chat.dialect)
        messages = [_said(message) for message in turn.context]
        owner_id, dialect = turn.chat.owner_id, turn.chat.dialect
        briefing = await self._briefer.brief(persona, user_id=owner_id, dialect=dialect, query=messages[-1].text)
        question = question_of_turn(
            settings, persona, messages, max_tokens=self._settings.max_context_tokens, told=briefing.system_text
        )
        # An older session service does not tell who asked.
        asked_by = turn.asked_by or turn.context[-1].sender_id
        keys = await self._user_keys.find(asked_by) if persona.own_keys else NO_KEYS
        targets = self._routes.find(settings.model or persona.route, keys)
        if targets is None:
            # A chat may name a model that has gone since: it is answered by its persona's.
            targets = self._routes.find(persona.route, keys) or ()
        blank = Message(
            id=turn.answer_id,
            chat_id=turn.chat.id or turn.lease.chat_id,
            role=Role.ASSISTANT,
            content="",
            created_at_us=0,
            reply_to_id=turn.context[-1].id if turn.context else "",
            turn_id=turn.lease.turn_id,
        )
        sink = _TurnSink(turn_log, self._publisher, blank, self._clocks, briefing)
        deadline = started_at + codec.seconds(turn.time_left)
        made = await answer(
            question,
            targets,
            sink,
            self._asking,
            started_at=started_at,
            deadline=deadline,
            spent=partial(self._recorder.add, asked_by or owner_id),
        )
        return briefing.noted(made)


class _TurnSink:
    """Writes an answer's text to its turn's log."""

    def __init__(
        self, turn_log: TurnLog, publisher: Publisher, blank: Message, clocks: Clocks, briefing: Briefing
    ) -> None:
        self._turn_log = turn_log
        self._publisher = publisher
        self._blank = blank
        self._clocks = clocks
        self._briefing = briefing

    @property
    def text(self) -> str:
        return self._turn_log.text

    @property
    def restartable(self) -> bool:
        return True

    async def start(self, provider: str, model: str) -> None:
        # What was given stands in it from the beginning: an answer that is stopped gets no other.
        running = self._briefing.noted(Answer(AnswerState.RUNNING, provider=provider, model=model))
        # Nobody is woken: the first text follows at once, and goes with it.
        self._turn_log.start(replace(self._blank, created_at_us=self._clocks.wall_us(), answer=running))

    def restart(self) -> None:
        self._turn_log.restart()

    def reason(self, text: str) -> None:
        """A chat shows no reasoning."""

    def call_tools(self, deltas: tuple[ToolCallDelta, ...]) -> None:
        """A chat offers no tools: a model that calls one all the same is not heard."""

    def write(self, text: str) -> asyncio.Future[None] | None:
        room = self._turn_log.write(text)
        self._publisher.wake(self._turn_log)
        return room


class _Heard:
    """Whether the session service still answers a stream's renewals.

    Only one that has done so before, by an empty response, is held to it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._answers = False

    def response(self, *, empty: bool) -> None:
        """A response came."""
        self._at = self._clock()
        self._answers = self._answers or empty

    def check(self) -> None:
        """Raises: StreamBrokenError."""
        if self._answers and self._clock() - self._at > SILENCE_S:
            raise StreamBrokenError("silent")


def _said(proto: chat_pb2.Message) -> Said:
    failed = proto.answer.state == chat_pb2.ANSWER_STATE_FAILED
    return Said(_ROLES[proto.role], proto.content, failed)


def _ids(turn: session_pb2.ClaimedTurn) -> dict[str, Any]:
    return {"chat_id": turn.lease.chat_id, "turn_id": turn.lease.turn_id, "claims": turn.claims}
