"""`switchboard.llm.v1.LLMService`: requests checked, answers and failures in the contract's words."""

import logging
import math
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote

import grpc.aio
from chat import codec
from chat.errors import ErrorCode, Failure, SwitchboardError
from chat.messages import AnswerState, Role
from chat.names import ID_FORM, is_id
from google.protobuf.timestamp_pb2 import Timestamp
from runtime.rpc_errors import status_of
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2, llm_pb2_grpc

from llm_worker.answer import Asking, answer
from llm_worker.breaker import BreakerState
from llm_worker.context import Question, join_systems
from llm_worker.conversation import Line, line, merge
from llm_worker.own_target import AnyTarget
from llm_worker.route import Routes
from llm_worker.settings import Settings
from llm_worker.target import Target
from llm_worker.user_keys import UserKeys

log = logging.getLogger(__name__)

MAX_OUTPUT_TOKENS = 128_000
MAX_STOPS = 4
USER = "x-switchboard-user"
MAX_PARTS = 10_000
"""In all messages together. What fits into a request, millions, would hold up every other stream for seconds."""

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
        self, settings: Settings, routes: Routes, asking: Asking, turns: TurnStarter, user_keys: UserKeys
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._asking = asking
        self._user_keys = user_keys
        self._turns = turns
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
        made = await answer(question, targets, _CallSink(context), self._asking, started_at=now, deadline=deadline)
        if made.state is AnswerState.COMPLETED:
            await context.write(llm_pb2.GenerateResponse(finished=llm_pb2.Finished(answer=codec.answer_to_proto(made))))
        elif made.failure is not None:
            _fail(context, made.failure)

    async def StartTurn(self, request: llm_pb2.StartTurnRequest, context: _Context) -> llm_pb2.StartTurnResponse:
        try:
            for field, value in (("chat_id", request.chat_id), ("turn_id", request.turn_id)):
                if not is_id(value) and (value or field == "chat_id"):
                    _refuse(field, f"must be {ID_FORM}")
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
        )

    def _find(self, model: str) -> tuple[AnyTarget, ...]:
        targets = self._routes.find(model)
        if targets is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "No such model; ListModels says which there are.")
        if self._generating >= self._settings.max_turns:
            raise SwitchboardError(ErrorCode.OVERLOADED, "This worker is full; try again.", retry_after_s=1.0)
        return targets


class _CallSink:
    """Writes an answer's text to a call's stream."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def restartable(self) -> bool:
        # The caller has read it.
        return False

    async def start(self, provider: str, model: str) -> None:
        started = llm_pb2.Started(provider=provider, model=model)
        await self._context.write(llm_pb2.GenerateResponse(started=started))

    def restart(self) -> None:
        raise AssertionError("a call's text can't be taken back")

    def write(self, text: str) -> Any:
        self._texts.append(text)
        return self._context.write(llm_pb2.GenerateResponse(text=text))


def acting_user(context: _Context) -> str:
    """On whose behalf the call is made; "": nobody's."""
    for key, value in context.invocation_metadata() or ():
        if key == USER and isinstance(value, str):
            return unquote(value)
    return ""


def read_question(request: llm_pb2.GenerateRequest) -> Question:
    """What a caller asks. Raises: SwitchboardError (INVALID_ARGUMENT, with the field)."""
    if max(len(request.messages), sum(len(message.parts) for message in request.messages)) > MAX_PARTS:
        _refuse("messages", f"may hold {MAX_PARTS} parts at the most, all together")
    systems: list[str] = []
    lines: list[Line] = []
    for at, message in enumerate(request.messages):
        text = _text_of(message, f"messages[{at}]")
        match message.role:
            case chat_pb2.ROLE_SYSTEM:
                systems.append(text)
            case chat_pb2.ROLE_USER | chat_pb2.ROLE_ASSISTANT:
                lines.append(line(Role(message.role), text))
            case _:
                _refuse(f"messages[{at}].role", "must be ROLE_USER, ROLE_ASSISTANT or ROLE_SYSTEM")
    if not lines:
        _refuse("messages", "must hold at least one message that is not ROLE_SYSTEM")
    if lines[-1].role is not Role.USER:
        _refuse("messages", "must end with a message of ROLE_USER: models refuse to go on with an answer of their own")
    temperature = request.temperature if request.HasField("temperature") else None
    if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
        _refuse("temperature", "must be a number from 0.0 to 2.0")
    if request.max_output_tokens > MAX_OUTPUT_TOKENS:
        _refuse("max_output_tokens", f"must be at most {MAX_OUTPUT_TOKENS}")
    if len(request.stop) > MAX_STOPS:
        _refuse("stop", f"may hold {MAX_STOPS} texts at the most")
    for at, stop in enumerate(request.stop):
        if not stop:
            _refuse(f"stop[{at}]", "must not be empty")
    if request.tools:
        _refuse("tools", "are not supported yet")
    return Question(
        lines=merge(lines),
        system_prompt=join_systems(systems),
        temperature=temperature,
        max_output_tokens=request.max_output_tokens,
        stop=tuple(request.stop),
    )


def _text_of(message: llm_pb2.InputMessage, field: str) -> str:
    if not message.parts:
        _refuse(f"{field}.parts", "must hold at least one part")
    texts = []
    for at, part in enumerate(message.parts):
        match part.WhichOneof("kind"):
            case "text" if part.text:
                texts.append(part.text)
            case "text" | None:
                _refuse(f"{field}.parts[{at}]", "must not be empty")
            case kind:
                # Pictures, tool calls and their results get their place in `Line` with a later issue.
                _refuse(f"{field}.parts[{at}].{kind}", "is not supported yet; send text")
    return "".join(texts)


def _refuse(field: str, problem: str) -> NoReturn:
    raise SwitchboardError(ErrorCode.INVALID_ARGUMENT, f"{field} {problem}", field=field)


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
