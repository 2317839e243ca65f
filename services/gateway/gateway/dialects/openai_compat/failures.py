"""Failures in OpenAI's form: over HTTP, and as the last event of a stream that breaks."""

from typing import Any, Literal

from chat.errors import ErrorCode, SwitchboardError
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from gateway.dialects.openai_compat.forms import is_tag
from gateway.http import headers_of, status_of

UNKNOWN_MODEL = "The model 'no-such-model' does not exist."
_CODES = {
    ErrorCode.UNAUTHENTICATED: "invalid_api_key",
    ErrorCode.NOT_FOUND: "model_not_found",
    ErrorCode.CONTEXT_TOO_LONG: "context_length_exceeded",
    ErrorCode.PROVIDER_REFUSED: "content_policy_violation",
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
}


class FailureCause(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class Failed(BaseModel):
    """A failure in OpenAI's form."""

    error: FailureCause


def shape(error: SwitchboardError | RequestValidationError) -> Response:
    """A failure over HTTP."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse(_error("The body is not valid JSON.", "invalid_request_error", None, None), 400)
        where = ".".join(str(part) for part in first["loc"][1:] if not is_tag(part)) or None
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return JSONResponse(_error(message, "invalid_request_error", where, None), 400)
    return JSONResponse(error_object(error), status_of(error.code), headers_of(error))


def error_object(error: SwitchboardError) -> dict[str, Any]:
    """The body of an error."""
    status = status_of(error.code)
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    param = "model" if error.code is ErrorCode.NOT_FOUND else error.field
    return _error(error.failure.message, kind, param, _CODES.get(error.code, error.code.name.lower()))


def _error(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(message: str, where: str) -> SwitchboardError:
    """The refusal of what stands at that place in a request."""
    return SwitchboardError(ErrorCode.INVALID_ARGUMENT, message, field=where)


def cut_short() -> SwitchboardError:
    """The failure of an answer that just ended."""
    return SwitchboardError(ErrorCode.UNAVAILABLE, "The answer ended before it was whole. Please try again.")
