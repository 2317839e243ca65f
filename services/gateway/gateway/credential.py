"""The kinds of credential that clients show, as the documents for machines describe them. `auth.py` checks them.

Subsystem: docs/subsystems/gateway.md.
"""

from collections.abc import Mapping
from enum import Enum


class Credential(Enum):
    """A kind of credential and where it is shown; the value is its name in the documents."""

    API_KEY = "ApiKey"
    USER_TOKEN = "UserToken"  # noqa: S105
    TOKEN_IN_QUERY = "UserTokenInQuery"  # noqa: S105
    TOKEN_IN_COOKIE = "UserTokenInCookie"  # noqa: S105
    TICKET = "Ticket"

    @property
    def scheme(self) -> Mapping[str, str]:
        """The security scheme, as AsyncAPI writes it."""
        return _SCHEMES[self]


_SCHEMES: Mapping[Credential, Mapping[str, str]] = {
    Credential.API_KEY: {
        "type": "http",
        "scheme": "bearer",
        "description": "A product's API key: `Authorization: Bearer <API_KEY>`.",
    },
    Credential.USER_TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's token: `Authorization: Bearer <token>`. It needs `sub` and `exp`.",
    },
    Credential.TOKEN_IN_QUERY: {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "A user's token, for clients that can't set headers.",
    },
    Credential.TOKEN_IN_COOKIE: {
        "type": "httpApiKey",
        "in": "cookie",
        "name": "access_token",
        "description": "A user's token; from a browser, only for pages whose origin CORS_ORIGINS names.",
    },
    Credential.TICKET: {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "What start_session has put into `websocket_url`: good while that session is open.",
    },
}
