"""OpenAI's messages as prompts: texts, pictures, tool calls, and their results, which OpenAI has one a message."""

from collections.abc import Sequence

import orjson
from chat.messages import Role

from gateway.dialects.openai_compat.failures import refusal
from gateway.dialects.openai_compat.forms import ChatMessage, ContentPart, ToolCallForm
from gateway.dialects.openai_compat.images import read_image
from gateway.prompts import Image, Part, Prompt, ToolCall, ToolResult

_ARGUMENTS_CHARS = 512 * 1024
"""Of one call, as the worker takes them: more than a model can write. They are parsed, and everybody else waits."""
_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}


def read_messages(messages: Sequence[ChatMessage]) -> tuple[Prompt, ...]:
    """The conversation; messages that say nothing are left out. Raises: SwitchboardError INVALID_ARGUMENT."""
    prompts: list[Prompt] = []
    calls = _Calls()
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if message.role == "function" or message.function_call:
            old = "role" if message.role == "function" else "function_call"
            raise refusal("Functions in their old form are not supported here: use tools.", f"{where}.{old}")
        if message.role == "tool":
            calls.take(message, where)
            if not calls.waiting:
                prompts.append(Prompt(Role.USER, tuple(calls.results)))
            continue
        calls.check_answered()
        parts = _parts(message, where)
        if message.tool_calls:
            parts += calls.open(message, where)
        if parts:
            prompts.append(Prompt(_ROLES[message.role], tuple(parts)))
    calls.check_answered()
    if all(prompt.role is Role.SYSTEM for prompt in prompts):
        raise refusal(
            "messages must hold at least one message of a user or an assistant that is not empty.", "messages"
        )
    return tuple(prompts)


class _Calls:
    """The tool calls of the last answer that made any."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        """Ids of those that have no result yet."""
        self.results: list[ToolResult] = []
        self._where = ""

    def open(self, message: ChatMessage, where: str) -> list[ToolCall]:
        """The calls of a message, whose results come next."""
        if message.role != "assistant":
            raise refusal("Only messages of the assistant have tool_calls.", f"{where}.tool_calls")
        self._where, self.results = f"{where}.tool_calls", []
        made = [_call(form, f"{self._where}.{index}") for index, form in enumerate(message.tool_calls or ())]
        self.waiting = {call.id for call in made}
        if len(self.waiting) < len(made):
            raise refusal("Two tool calls have the same id.", self._where)
        return made

    def take(self, message: ChatMessage, where: str) -> None:
        """A message with the result of one of them."""
        if message.tool_call_id not in self.waiting:
            raise refusal(
                "tool_call_id must name one of the tool calls of the assistant's message before, each once.",
                f"{where}.tool_call_id",
            )
        self.waiting.remove(message.tool_call_id)
        if message.tool_calls:
            raise refusal("Only messages of the assistant have tool_calls.", f"{where}.tool_calls")
        texts = [part for part in _parts(message, where) if isinstance(part, str)]
        self.results.append(ToolResult(message.tool_call_id, "".join(texts)))

    def check_answered(self) -> None:
        """Raises: SwitchboardError: a call has no result."""
        if self.waiting:
            raise refusal(
                "Each tool call needs its result in a message of the role 'tool' right behind it: "
                f"{min(self.waiting)!r} has none.",
                self._where,
            )


def _call(form: ToolCallForm, where: str) -> ToolCall:
    if len(form.function.arguments) > _ARGUMENTS_CHARS:
        raise refusal(
            f"A tool call's arguments may have {_ARGUMENTS_CHARS:,} characters.", f"{where}.function.arguments"
        )
    arguments = form.function.arguments.strip()
    if arguments:
        try:
            is_object = isinstance(orjson.loads(arguments), dict)
        except orjson.JSONDecodeError:
            is_object = False
        if not is_object:
            raise refusal("A tool call's arguments must be a JSON object as text.", f"{where}.function.arguments")
    return ToolCall(form.id, form.function.name, arguments)


def _parts(message: ChatMessage, where: str) -> list[Part]:
    """What a message says. Texts that follow one another are one, line by line."""
    if not isinstance(message.content, list):
        return [message.content] if message.content else []
    made: list[Part] = []
    # Joined once at a run's end: one by one, a request of thousands would hold up all others for half a minute.
    texts: list[str] = []
    for index, part in enumerate(message.content):
        piece = _part(part, message.role, f"{where}.content.{index}")
        if isinstance(piece, str):
            texts += [piece] if piece else []
            continue
        made += ["\n".join(texts)] if texts else []
        made.append(piece)
        texts = []
    made += ["\n".join(texts)] if texts else []
    return made


def _part(part: ContentPart, role: str, where: str) -> str | Image:
    match part.type:
        case "text" | "refusal":
            return part.text
        case "image_url" if role == "user":
            if part.image_url is None:
                raise refusal("The picture's URL is missing.", f"{where}.image_url")
            return read_image(part.image_url.url, f"{where}.image_url")
        case "image_url":
            raise refusal("Only messages of a user may have pictures.", where)
        case _:
            raise refusal(
                f"Content of type {part.type[:40]!r} is not supported here: send text or pictures.", f"{where}.type"
            )
