"""Failures in Arketic's forms: `{"detail": ...}` over HTTP, codes and words of `ai_error` on the WebSocket."""

from chat.errors import ErrorCode, Failure, SwitchboardError
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gateway.http import headers_of, status_of

UNAVAILABLE = frozenset(
    {ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED, ErrorCode.DEADLINE_EXCEEDED}
)
"""What the document calls an unavailable LangChain service, where an answer was asked for."""
SERVICE_UNAVAILABLE = "langchain_service_unavailable"
_NO_KEY = "Please set up your OpenAI API key in Settings to enable AI responses."


def shape(error: SwitchboardError | RequestValidationError) -> Response:
    """A failure over HTTP: a sentence, or for a body or query that is not valid a list that names the fields."""
    if isinstance(error, RequestValidationError):
        # Without `input`: what a client sent by mistake, a key say, is not repeated.
        wrong = [
            {"loc": list(entry["loc"][1:]) or list(entry["loc"]), "msg": entry["msg"], "type": entry["type"]}
            if entry["type"] != "json_invalid"
            else {"loc": ["body"], "msg": "The body is not valid JSON.", "type": entry["type"]}
            for entry in error.errors()
        ]
        return JSONResponse({"detail": wrong}, 422)
    return JSONResponse({"detail": error_text(error.failure)}, status_of(error.code), headers_of(error))


def error_text(failure: Failure) -> str:
    """What a person reads."""
    return _NO_KEY if failure.code is ErrorCode.NO_API_KEY else failure.message


def error_code(code: ErrorCode) -> str:
    """The word for programs."""
    return SERVICE_UNAVAILABLE if code is ErrorCode.PROVIDER_UNAVAILABLE else code.name.lower()
