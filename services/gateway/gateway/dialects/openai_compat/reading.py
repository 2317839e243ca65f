"""A request for a completion in our own words; what would change its meaning and is not supported is refused."""

from gateway.dialects.openai_compat.conversation import read_messages
from gateway.dialects.openai_compat.failures import refusal
from gateway.dialects.openai_compat.forms import CompletionRequest
from gateway.dialects.openai_compat.tools import read_tool_use
from gateway.prompts import GenerateRequest


def read_request(body: CompletionRequest) -> GenerateRequest:
    """What is asked for. Raises: SwitchboardError INVALID_ARGUMENT."""
    refusals = {
        "n": body.n not in (None, 1),
        "response_format": body.response_format is not None and body.response_format.get("type") != "text",
        "logprobs": bool(body.logprobs),
        "logit_bias": bool(body.logit_bias),
        "modalities": body.modalities not in (None, ["text"]),
        "audio": body.audio is not None,
    }
    for name, refused in refusals.items():
        if refused:
            raise refusal(f"{name} is not supported here.", name)
    for name, old in (("functions", body.functions), ("function_call", body.function_call)):
        if old:
            raise refusal(f"{name} is not supported here: use tools and tool_choice.", name)
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return GenerateRequest(
        model=body.model,
        messages=read_messages(body.messages),
        temperature=body.temperature,
        max_output_tokens=body.max_completion_tokens or body.max_tokens or 0,
        stop=tuple(text for text in stop if text),
        tool_use=read_tool_use(body),
    )
