"""What one call to a provider came to, and what that asks of us: the closed set that adapters translate into.

Adapters decide by HTTP status, by the class of an exception and by the error's code and type, never by a message's text
(with the exceptions of `providers.anthropic`, `SPENT_MESSAGE` and `TOO_LONG_MESSAGES`).
The table is DESIGN section 7; see docs/subsystems/providers.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from chat.errors import ErrorCode, Failure


class Again(Enum):
    """When the target that failed is asked once more."""

    NEVER = auto()
    FIRST = auto()
    """After a back-off, before the next target: what ailed it is often over at once."""
    WHEN_TOLD = auto()
    """As FIRST, but only after a wait that it named itself (Retry-After)."""
    LAST = auto()
    """After a back-off, where no other target is left."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an outcome asks of the attempt loop and of the breaker."""

    code: ErrorCode
    sentence: str
    counts: bool = False
    """Against the target's breaker: the provider is unwell."""
    again: Again = Again.NEVER
    next: bool = True
    """The next target of the route may answer instead, or go on with what was begun."""
    larger: bool = False
    """A target with a larger window may answer instead, once."""
    billed: bool = False
    """The provider is expected to charge for what it had begun."""
    loud: bool = False
    """Waiting does not help: the operator has to do something."""


_NO_ANSWER = ErrorCode.PROVIDER_UNAVAILABLE


class Outcome(Enum):
    """How a call failed."""

    UNREACHABLE = Rule(_NO_ANSWER, "The provider can't be reached; try again.", counts=True, again=Again.FIRST)
    OVERLOADED = Rule(_NO_ANSWER, "The provider is overloaded or broken; try again.", counts=True, again=Again.FIRST)
    SLOW = Rule(_NO_ANSWER, "The provider did not begin to answer in time; try again.", counts=True, billed=True)
    SILENT = Rule(
        _NO_ANSWER,
        "The provider fell silent in the middle of the answer.",
        counts=True,
        billed=True,
        again=Again.LAST,
    )
    CUT = Rule(
        _NO_ANSWER, "The provider broke off in the middle of the answer.", counts=True, billed=True, again=Again.LAST
    )
    NOT_CONTINUED = Rule(_NO_ANSWER, "The provider would not go on with an answer that was cut.", billed=True)
    RATE_LIMITED = Rule(_NO_ANSWER, "The provider's rate limit is reached; try again later.", again=Again.WHEN_TOLD)
    KEY_REFUSED = Rule(
        _NO_ANSWER, "The provider refuses the platform's key, or its quota is spent; try again later.", loud=True
    )
    MODEL_UNKNOWN = Rule(_NO_ANSWER, "The provider does not offer this model.")
    NOT_UNDERSTOOD = Rule(_NO_ANSWER, "The provider did not understand the request.")
    CONTEXT_TOO_LONG = Rule(
        ErrorCode.CONTEXT_TOO_LONG,
        "The conversation is too long for the model; shorten it or start anew.",
        next=False,
        larger=True,
    )
    CONTENT_REFUSED = Rule(
        ErrorCode.PROVIDER_REFUSED,
        "The provider refused this request, most likely for its content; rephrase the message.",
        next=False,
    )


OWN_KEY_RULES: Mapping[Outcome, Rule] = {
    Outcome.KEY_REFUSED: Rule(
        ErrorCode.API_KEY_REFUSED,
        "Your own {provider} key was refused, or its quota is spent; check it in your settings.",
        next=False,
    ),
    Outcome.RATE_LIMITED: Rule(
        ErrorCode.RATE_LIMITED,
        "The rate limit of your own {provider} key is reached; try again later.",
        again=Again.WHEN_TOLD,
        next=False,
    ),
    Outcome.MODEL_UNKNOWN: Rule(
        ErrorCode.PROVIDER_REFUSED, "Your own {provider} key gives no access to this model; choose another.", next=False
    ),
    # xAI says of a wrong key no more than this.
    Outcome.NOT_UNDERSTOOD: Rule(
        ErrorCode.PROVIDER_REFUSED,
        "The provider refused the request made with your own {provider} key; check the key and the model.",
        next=False,
    ),
}
"""What is otherwise asked when the key was the user's own: only a provider that is down lets another target answer,
since the platform's money must never stand in for the user's. `{provider}` is the provider's name."""


class ProviderError(Exception):
    """A call failed. `retry_after_s`: what the provider asked for."""

    def __init__(self, outcome: Outcome, *, retry_after_s: float | None = None, status: int | None = None) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome
        self.retry_after_s = retry_after_s
        self.status = status
        """The HTTP status, for the log."""

    @property
    def rule(self) -> Rule:
        """What the outcome asks for."""
        return self.outcome.value

    def failure(self) -> Failure:
        """As an attempt with the platform's key records it."""
        return Failure(self.rule.code, self.rule.sentence, self.retry_after_s)


def outcome_of_status(status: int) -> Outcome:
    """What an HTTP status says where the error's code says nothing more.

    Sources: docs.claude.com/en/api/errors, platform.openai.com/docs/guides/error-codes, docs.x.ai.
    """
    match status:
        case 429:
            return Outcome.RATE_LIMITED
        case 401 | 402 | 403:
            return Outcome.KEY_REFUSED
        case 404:
            return Outcome.MODEL_UNKNOWN
        case 413:
            return Outcome.CONTEXT_TOO_LONG
        # 408 is the provider's own time-out; 529 and the like lie above 500.
        case 408:
            return Outcome.OVERLOADED
        case _ if status >= 500:
            return Outcome.OVERLOADED
        case _:
            return Outcome.NOT_UNDERSTOOD


def read_retry_after(text: str | None) -> float | None:
    """A Retry-After header in seconds; its date form is not used by providers and reads as None."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e6 else None
