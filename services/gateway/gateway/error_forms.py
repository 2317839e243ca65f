"""The plain form of failures over HTTP, `{"detail": ...}`, for the OpenAPI document. `http.py` writes it.

Subsystem: docs/subsystems/gateway.md.
"""

from pydantic import BaseModel


class Detail(BaseModel):
    """A failure: a sentence that a person may see."""

    detail: str


class WrongField(BaseModel):
    """A field of a body, a path or a query that is not as it must be. `loc` leads to it."""

    type: str
    loc: list[str | int]
    msg: str


class WrongFields(BaseModel):
    """A request that is not as it must be, field by field."""

    detail: list[WrongField]
