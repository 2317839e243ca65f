"""The tools that a client offers the model, and how it is to use them."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.dialects.openai_compat.failures import refusal
from gateway.dialects.openai_compat.forms import CompletionRequest, FunctionForm, NamedTool
from gateway.prompts import NO_TOOLS, Tool, ToolChoice, ToolUse

_SCHEMA_DEPTH = 30
"""protobuf refuses what is nested deeper than 100 levels, and has three for each of a JSON object."""
_SCHEMA_VALUES = 20_000
"""In all tools together: at 1 to 3 us each, here and in the worker, while nobody else is served."""
_SCHEMA_BYTES = 512 * 1024
_CHOICES = {"none": ToolChoice.NONE, "auto": ToolChoice.AUTO, "required": ToolChoice.REQUIRED}


def read_tool_use(body: CompletionRequest) -> ToolUse:
    """What the model may ask for. Raises: SwitchboardError INVALID_ARGUMENT."""
    if not body.tools:
        if isinstance(body.tool_choice, NamedTool) or body.tool_choice == "required":
            raise refusal("tool_choice asks for a tool, and there are no tools.", "tool_choice")
        return NO_TOOLS
    tools: dict[str, Tool] = {}
    budget = _Budget()
    for index, form in enumerate(body.tools):
        where, function = f"tools.{index}.function", form.function
        if function.name in tools:
            raise refusal(f"Two tools are named {function.name!r}.", f"{where}.name")
        parameters = _parameters(function, budget, f"{where}.parameters")
        tools[function.name] = Tool(function.name, function.description or "", parameters)
    name = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else ""
    if name and name not in tools:
        raise refusal(f"tool_choice names {name[:64]!r}, which is none of the tools.", "tool_choice")
    choice = ToolChoice.AUTO if isinstance(body.tool_choice, NamedTool) else _CHOICES[body.tool_choice or "auto"]
    return ToolUse(tuple(tools.values()), choice, name, one_call=body.parallel_tool_calls is False)


class _Budget:
    """What the schemas of a request may still have, all together."""

    def __init__(self) -> None:
        self.values = _SCHEMA_VALUES
        self.bytes = _SCHEMA_BYTES


def _parameters(function: FunctionForm, budget: _Budget, where: str) -> Mapping[str, Any] | None:
    schema = function.parameters
    if schema is None:
        return None
    _count(schema, budget, where)
    try:
        encoded = orjson.dumps(schema)
    except orjson.JSONEncodeError as exc:
        raise refusal("The parameters hold a number or a text that can't be passed on.", where) from exc
    budget.bytes -= len(encoded)
    if budget.bytes < 0:
        raise refusal(f"The parameters of all tools may have {_SCHEMA_BYTES:,} bytes together.", where)
    if orjson.loads(encoded) != schema:
        # Python reads NaN and Infinity, which are no JSON.
        raise refusal("The parameters hold a number that is none.", where)
    return schema


def _count(value: Any, budget: _Budget, where: str, above: int = 0) -> None:
    """Takes the values of a schema off the budget. Raises: SwitchboardError: it is used up, or the schema too deep."""
    budget.values -= 1
    if budget.values < 0:
        raise refusal(f"The parameters of all tools may have {_SCHEMA_VALUES:,} values together.", where)
    if isinstance(value, dict | list):
        if above == _SCHEMA_DEPTH:
            raise refusal(f"The parameters may be nested {_SCHEMA_DEPTH} levels deep.", where)
        for one in value.values() if isinstance(value, dict) else value:
            _count(one, budget, where, above + 1)
