"""Who calls: the acting user and the client's key, as the metadata of a call names them (see session.proto).

Both are what the calling service, which showed the service token, answers for; nobody else gets as far as this.
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import grpc.aio

from session.checks import check_label, invalid

USER = "x-switchboard-user"
KEY = "x-switchboard-key"
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Context = grpc.aio.ServicerContext[Any, Any]


def acting_user(context: Context) -> str:
    """The user on whose behalf the call is made, decoded; empty: none is named. Raises: SwitchboardError."""
    given = _metadata(context, USER)
    if _BROKEN_ESCAPE.search(given):
        raise invalid(USER, "must be percent-encoded")
    try:
        user = unquote_to_bytes(given).decode()
    except UnicodeDecodeError:
        raise invalid(USER, "must be UTF-8, percent-encoded") from None
    check_label(USER, user)
    return user


def key_id(context: Context) -> str:
    """The id of the client's API key, which does not tell it; empty: none is named. Raises: SwitchboardError."""
    given = _metadata(context, KEY)
    check_label(KEY, given)
    return given


def _metadata(context: Context, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""
