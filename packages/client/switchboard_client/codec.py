"""Our values as the contract's messages, and back. Nothing is checked here: the worker names the wrong field."""

from __future__ import annotations  # the stubs' enums are types in their stubs only

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict, assert_never

from google.protobuf.struct_pb2 import Struct
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from switchboard_client.messages import Image, Message, Part, Role, Tool, ToolCall, ToolChoice, ToolResult
from switchboard_client.offers import BreakerState, Model, TargetStatus
from switchboard_client.pieces import (
    Attempt,
    Finished,
    FinishReason,
    Piece,
    Reasoning,
    Started,
    Text,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

_ROLES = {
    Role.SYSTEM: chat_pb2.ROLE_SYSTEM,
    Role.USER: chat_pb2.ROLE_USER,
    Role.ASSISTANT: chat_pb2.ROLE_ASSISTANT,
}
_TOOL_CHOICES = {
    ToolChoice.AUTO: llm_pb2.TOOL_CHOICE_UNSPECIFIED,
    ToolChoice.NONE: llm_pb2.TOOL_CHOICE_NONE,
    ToolChoice.REQUIRED: llm_pb2.TOOL_CHOICE_REQUIRED,
}
_FINISH_REASONS = {
    chat_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    chat_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    chat_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
    chat_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
}
_BREAKER_STATES = {
    llm_pb2.BREAKER_STATE_CLOSED: BreakerState.CLOSED,
    llm_pb2.BREAKER_STATE_OPEN: BreakerState.OPEN,
    llm_pb2.BREAKER_STATE_HALF_OPEN: BreakerState.HALF_OPEN,
}


class Options(TypedDict, total=False):
    """What an answer may be asked with, beside the messages. What is left out is the route's to say."""

    model: str
    """A model or a route of `list_models`; left out: the default route."""
    temperature: float
    """0.0 to 2.0."""
    max_output_tokens: int
    stop: Sequence[str]
    tools: Sequence[Tool]
    tool_choice: ToolChoice | Tool
    """A tool: that one must be asked for."""
    one_tool_call: bool
    """One tool at the most."""
    own_keys: bool
    """Use the acting user's own provider key where there is one."""


def request_of(messages: Iterable[Message], options: Options) -> llm_pb2.GenerateRequest:
    """Raises: ValueError for a tool's parameters that are no JSON."""
    choice = options.get("tool_choice", ToolChoice.AUTO)
    return llm_pb2.GenerateRequest(
        model=options.get("model", ""),
        messages=[
            llm_pb2.InputMessage(role=_ROLES[message.role], parts=[_part(part) for part in message.parts])
            for message in messages
        ],
        temperature=options.get("temperature"),
        max_output_tokens=options.get("max_output_tokens", 0),
        stop=options.get("stop", ()),
        tools=[_tool(tool) for tool in options.get("tools", ())],
        own_keys=options.get("own_keys", False),
        tool_choice=_TOOL_CHOICES[ToolChoice.AUTO if isinstance(choice, Tool) else choice],
        tool_choice_name=choice.name if isinstance(choice, Tool) else "",
        one_tool_call=options.get("one_tool_call", False),
    )


def _part(part: Part) -> llm_pb2.Part:
    match part:
        case str():
            return llm_pb2.Part(text=part)
        case Image():
            image = llm_pb2.Image(media_type=part.media_type)
            if part.content:
                image.content = part.content
            else:
                image.url = part.url
            return llm_pb2.Part(image=image)
        case ToolCall():
            return llm_pb2.Part(tool_call=llm_pb2.ToolCall(id=part.id, name=part.name, arguments=part.arguments))
        case ToolResult():
            result = llm_pb2.ToolResult(tool_call_id=part.tool_call_id, text=part.text, is_error=part.is_error)
            return llm_pb2.Part(tool_result=result)
        case _:
            assert_never(part)


def _tool(tool: Tool) -> llm_pb2.Tool:
    parameters = None
    if tool.parameters is not None:
        parameters = Struct()
        parameters.update(tool.parameters)
    return llm_pb2.Tool(name=tool.name, description=tool.description, parameters=parameters)


def piece_of(response: llm_pb2.GenerateResponse) -> Piece | None:
    """None: a kind that is newer than this client."""
    match response.WhichOneof("kind"):
        case "text":
            return Text(response.text)
        case "reasoning":
            return Reasoning(response.reasoning)
        case "tool_call":
            call = response.tool_call
            return ToolCallDelta(call.index, call.id, call.name, call.arguments)
        case "started":
            return Started(response.started.provider, response.started.model)
        case "finished":
            return _finished(response.finished.answer)
        case _:
            return None


def _finished(answer: chat_pb2.Answer) -> Finished:
    usage = answer.usage
    return Finished(
        finish_reason=_FINISH_REASONS.get(answer.finish_reason, FinishReason.UNKNOWN),
        provider=answer.provider,
        model=answer.model,
        usage=Usage(usage.input_tokens, usage.output_tokens, usage.estimated, usage.cost_nano_usd),
        duration_s=_seconds(answer.duration),
        attempts=tuple(
            Attempt(
                provider=attempt.provider,
                model=attempt.model,
                failure=_code_name(attempt.failure.code) if attempt.HasField("failure") else "",
                billed=attempt.billed,
                own_key=attempt.own_key,
            )
            for attempt in answer.attempts
        ),
    )


def _code_name(code: int) -> str:
    known = chat_pb2.ErrorCode.DESCRIPTOR.values_by_number.get(code)
    return known.name.removeprefix("ERROR_CODE_") if known is not None else "INTERNAL"


def models_of(response: llm_pb2.ListModelsResponse) -> tuple[Model, ...]:
    return tuple(Model(model.id, model.provider, model.context_tokens) for model in response.models)


def targets_of(response: llm_pb2.GetProviderStatusResponse) -> tuple[TargetStatus, ...]:
    return tuple(_target(target) for target in response.targets)


def _target(target: llm_pb2.TargetStatus) -> TargetStatus:
    return TargetStatus(
        provider=target.provider,
        model=target.model,
        configured=target.configured,
        breaker=_BREAKER_STATES.get(target.breaker, BreakerState.UNKNOWN),
        failures=target.failures,
        failure_threshold=target.failure_threshold,
        reset_timeout_s=_seconds(target.reset_timeout),
        last_failure_at=_time(target, "last_failure_at"),
        cooling_down_until=_time(target, "cooling_down_until"),
    )


def _time(target: llm_pb2.TargetStatus, field: str) -> datetime | None:
    if not target.HasField(field):  # type: ignore[arg-type]  # the stub knows literals alone
        return None
    stamp: datetime = getattr(target, field).ToDatetime(tzinfo=UTC)
    return stamp


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
