"""The gRPC face of what answers have cost: told by workers, read by whoever shows it."""

from datetime import date

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import usage_pb2, usage_pb2_grpc

from session.caller import Context, acting_user
from session.checks import check_id, check_label, invalid
from session.unary import unary
from session.usage import UsageByDay

_MAX_RECORDS = 1000
_MAX_ATTEMPTS = 100


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Every RPC's contract stands in protos/switchboard/session/v1/usage.proto.

    `tokens_a_day`: users' budget; 0: none.
    """

    def __init__(self, usage: UsageByDay, *, tokens_a_day: int) -> None:
        self._usage = usage
        self._tokens_a_day = tokens_a_day

    @unary
    async def RecordUsage(
        self, request: usage_pb2.RecordUsageRequest, context: Context
    ) -> usage_pb2.RecordUsageResponse:
        if acting_user(context):
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "usage is recorded by services, in no user's name")
        if not 1 <= len(request.records) <= _MAX_RECORDS:
            raise invalid("records", f"must be 1 to {_MAX_RECORDS}")
        for record in request.records:
            _check_record(record)
        await self._usage.record(request.records)
        return usage_pb2.RecordUsageResponse()

    @unary
    async def ReadUsage(self, request: usage_pb2.ReadUsageRequest, context: Context) -> usage_pb2.ReadUsageResponse:
        check_label("user_id", request.user_id)
        if acting_user(context) not in ("", request.user_id):
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "this is another user's")
        first, last = _day("from_day", request.from_day), _day("to_day", request.to_day)
        days = await self._usage.read(request.user_id, first, last)
        # Nobody who is known has no budget.
        return usage_pb2.ReadUsageResponse(days=days, tokens_a_day=self._tokens_a_day if request.user_id else 0)


def _check_record(record: usage_pb2.UsageRecord) -> None:
    check_id("records.id", record.id)
    check_label("records.user_id", record.user_id)
    if len(record.attempts) > _MAX_ATTEMPTS:
        raise invalid("records.attempts", f"are at most {_MAX_ATTEMPTS}")
    for attempt in record.attempts:
        check_label("records.attempts.provider", attempt.provider)
        check_label("records.attempts.model", attempt.model)


def _day(field: str, given: str) -> date | None:
    """A day as it is written; None: not given."""
    if not given:
        return None
    try:
        day = date.fromisoformat(given)
    except ValueError:
        day = None
    # Other forms of the same standard, such as "20261120", are none of the contract's.
    if day is None or day.isoformat() != given:
        raise invalid(field, 'must be a day, such as "2026-11-20"')
    return day
