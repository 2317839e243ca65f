"""The gRPC face of the replicas' reports."""

from chat.errors import ErrorCode, SwitchboardError
from switchboard.session.v1 import report_pb2, report_pb2_grpc

from session.caller import Context
from session.checks import check_id, invalid
from session.reports import Reports
from session.unary import unary

_MAX_REPORT_BYTES = 1024 * 1024
"""Nine dialects' thousand largest chats, with ids as long as a UUID."""


class ReportServicer(report_pb2_grpc.ReportServiceServicer):
    """Every RPC's contract stands in protos/switchboard/session/v1/report.proto."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @unary
    async def Report(self, request: report_pb2.ReportRequest, context: Context) -> report_pb2.ReportResponse:
        check_id("replica.id", request.replica.id)
        if request.replica.WhichOneof("kind") is None:
            raise invalid("replica", "must be a gateway's or a worker's report")
        if request.replica.ByteSize() > _MAX_REPORT_BYTES:
            raise SwitchboardError(
                ErrorCode.TOO_LARGE, f"replica is at most {_MAX_REPORT_BYTES} bytes", field="replica"
            )
        await self._reports.put(request.replica)
        return report_pb2.ReportResponse()

    @unary
    async def Retire(self, request: report_pb2.RetireRequest, context: Context) -> report_pb2.RetireResponse:
        check_id("replica_id", request.replica_id)
        await self._reports.retire(request.replica_id)
        return report_pb2.RetireResponse()

    @unary
    async def ListReports(
        self, request: report_pb2.ListReportsRequest, context: Context
    ) -> report_pb2.ListReportsResponse:
        return report_pb2.ListReportsResponse(replicas=await self._reports.list())
