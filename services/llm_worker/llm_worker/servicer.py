"""`switchboard.llm.v1.LLMService`: requests checked, answers and failures in the contract's words."""

import logging
from functools import partial
from typing import Any, Protocol
from urllib.parse import unquote

import grpc.aio
from chat import codec
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.messages import AnswerState
from chat.names import ID_FORM, is_id
from google.protobuf.timestamp_pb2 import Timestamp
from runtime.rpc_errors import status_of
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

from llm_worker.answer import Asking, answer
from llm_worker.breaker import BreakerState
from llm_worker.call_sink import CallSink
from llm_worker.context import Question
from llm_worker.generate_request import read_question, refuse
from llm_worker.own_target import AnyTarget
from llm_worker.route import Routes
from llm_worker.settings import Settings
from llm_worker.target import Target
from llm_worker.usage import UsageRecorder
from llm_worker.user_keys import UserKeys

log = logging.getLogger(__name__)

USER = "x-switchboard-user"

_BREAKER_STATES = {
    BreakerState.CLOSED: llm_pb2.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: llm_pb2.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: llm_pb2.BREAKER_STATE_HALF_OPEN,
}

_Context = grpc.aio.ServicerContext[Any, Any]


class TurnStarter(Protocol):
    """What `StartTurn` asks of the turn runner."""

    async def start_turn(self, chat_id: str, turn_id: str) -> bool:
        """Whether this worker has the turn now. Raises: SwitchboardError."""
        ...


class LLMServicer(llm_pb2_grpc.LLMServiceServicer):
    """Answers calls. Holds nothing but how many of them stream."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        asking: Asking,
        turns: TurnStarter,
        user_keys: UserKeys,
        recorder: UsageRecorder,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._asking = asking
        self._user_keys = user_keys
        self._turns = turns
        self._recorder = recorder
        self._generating = 0

    async def Generate(  # type: ignore[override]  # the stub knows generators alone; grpc.aio takes writers too
        self, request: llm_pb2.GenerateRequest, context: _Context
    ) -> None:
        try:
            question, targets = read_question(request), self._find(request.model)
        except SwitchboardError as exc:
            _fail(context, exc.failure, exc.field)
            return
        self._generating += 1
        try:
            if request.own_keys:
                keys = await self._user_keys.find(acting_user(context))
                targets = self._routes.find(request.model, keys) or ()
            await self._generate(question, targets, context)
        except SwitchboardError as exc:
            _fail(context, exc.failure)
        except grpc.aio.InternalError:
            # What a write raises that was under way when the caller went away; the call ends as cancelled.
            return
        finally:
            self._generating -= 1

    async def _generate(self, question: Question, targets: tuple[AnyTarget, ...], context: _Context) -> None:
        now = self._asking.clock()
        left_s = context.time_remaining()
        deadline = now + (self._asking.timeouts.generate_s if left_s is None else left_s)
        made = await answer(
            question,
            targets,
            CallSink(context),
            self._asking,
            started_at=now,
            deadline=deadline,
            spent=partial(self._recorder.add, acting_user(context)),
        )
        if made.state is AnswerState.COMPLETED:
            await context.write(llm_pb2.GenerateResponse(finished=llm_pb2.Finished(answer=codec.answer_to_proto(made))))
        elif made.failure is not None:
            _fail(context, made.failure)

    async def StartTurn(self, request: llm_pb2.StartTurnRequest, context: _Context) -> llm_pb2.StartTurnResponse:
        try:
            for field, value in (("chat_id", request.chat_id), ("turn_id", request.turn_id)):
                if not is_id(value) and (value or field == "chat_id"):
                    refuse(field, f"must be {ID_FORM}")
            claimed = await self._turns.start_turn(request.chat_id, request.turn_id)
        except SwitchboardError as exc:
            _fail(context, exc.failure, exc.field)
            return llm_pb2.StartTurnResponse()
        return llm_pb2.StartTurnResponse(claimed=claimed)

    async def ListModels(self, request: llm_pb2.ListModelsRequest, context: _Context) -> llm_pb2.ListModelsResponse:
        return llm_pb2.ListModelsResponse(
            models=[
                llm_pb2.Model(id=offer.id, provider=offer.provider, context_tokens=offer.context_tokens)
                for offer in self._routes.offers()
            ]
        )

    async def GetProviderStatus(
        self, request: llm_pb2.GetProviderStatusRequest, context: _Context
    ) -> llm_pb2.GetProviderStatusResponse:
        return llm_pb2.GetProviderStatusResponse(targets=[self._status(target) for target in self._routes.targets])

    def _status(self, target: Target) -> llm_pb2.TargetStatus:
        status, breaker = target.status(), self._settings.breaker
        p95_s = target.first_tokens.p95_s(self._settings.hedging.min_samples)
        return llm_pb2.TargetStatus(
            provider=target.provider.name,
            model=target.model.id,
            configured=target.configured,
            breaker=_BREAKER_STATES[status.breaker.state],
            failures=status.breaker.failures,
            failure_threshold=breaker.failure_threshold,
            reset_timeout=codec.duration(breaker.reset_timeout_s),
            last_failure_at=_timestamp(status.last_failure_at_s),
            cooling_down_until=_timestamp(status.cooling_until_s),
            time_to_first_token_p95=None if p95_s is None else codec.duration(p95_s),
        )

    def _find(self, model: str) -> tuple[AnyTarget, ...]:
        targets = self._routes.find(model)
        if targets is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "No such model; ListModels says which there are.")
        if self._generating >= self._settings.max_turns:
            raise SwitchboardError(ErrorCode.OVERLOADED, "This worker is full; try again.", retry_after_s=1.0)
        return targets


def acting_user(context: _Context) -> str:
    """On whose behalf the call is made; "": nobody's."""
    for key, value in context.invocation_metadata() or ():
        if key == USER and isinstance(value, str):
            return unquote(value)
    return ""


def _fail(context: _Context, failure: Failure, field: str | None = None) -> None:
    """Makes the call end with this status as soon as its method returns; what that returns is not sent.

    `abort` raises instead, and gRPC keeps its exception, whose frames hold the call: a circle, in which the request
    waits for a full collection.
    """
    status = status_of(failure, field)
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata(status.trailing_metadata)


def _timestamp(at_s: float | None) -> Timestamp | None:
    return None if at_s is None else codec.timestamp(round(at_s * 1_000_000))
