"""The gRPC face of the limits, for what answers without a chat."""

from switchboard.session.v1 import limit_pb2, limit_pb2_grpc

from session.caller import Context
from session.checks import check_id, check_name, check_span, invalid
from session.limiter import Limiter, Subject, Use
from session.unary import unary

_KINDS = {limit_pb2.SUBJECT_KIND_USER: "user", limit_pb2.SUBJECT_KIND_KEY: "key"}


class LimitServicer(limit_pb2_grpc.LimitServiceServicer):
    """Every RPC's contract stands in protos/switchboard/session/v1/limit.proto."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    @unary
    async def Acquire(self, request: limit_pb2.AcquireRequest, context: Context) -> limit_pb2.AcquireResponse:
        subjects = _subjects(request)
        check_id("answer_id", request.answer_id)
        if not request.HasField("lasts"):
            raise invalid("lasts", "is needed")
        lasts_s = check_span("lasts", request.lasts, True, 0, low=1, high=3600)
        acquired = await self._limiter.acquire(subjects, Use(request.answer_id, round(lasts_s * 1000)))
        return limit_pb2.AcquireResponse(limit=acquired.standing)

    @unary
    async def Release(self, request: limit_pb2.ReleaseRequest, context: Context) -> limit_pb2.ReleaseResponse:
        subjects = _subjects(request)
        check_id("answer_id", request.answer_id)
        await self._limiter.release(subjects, request.answer_id)
        return limit_pb2.ReleaseResponse()


def _subjects(request: limit_pb2.AcquireRequest | limit_pb2.ReleaseRequest) -> list[Subject]:
    if not 1 <= len(request.subjects) <= 2:
        raise invalid("subjects", "must be 1 or 2")
    subjects: list[Subject] = []
    for given in request.subjects:
        if given.kind not in _KINDS:
            raise invalid("subjects.kind", "must be USER or KEY")
        check_name("subjects.id", given.id)
        subjects.append(Subject(_KINDS[given.kind], given.id))
    if len(set(subjects)) != len(subjects):
        raise invalid("subjects", "must differ")
    return subjects
