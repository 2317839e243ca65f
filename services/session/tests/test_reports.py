"""What replicas say of themselves counts while they go on saying it."""

import asyncio
import uuid

import pytest
from session import keys
from switchboard.session.v1 import report_pb2

from .client import Refused
from .conftest import Running
from .records import Records, redis_of


def gateway(replica_id: str, connections: int) -> report_pb2.Replica:
    dialect = report_pb2.DialectConnections(dialect="faye", connections=connections, by_chat={"c": connections})
    return report_pb2.Replica(id=replica_id, gateway=report_pb2.GatewayReport(dialects=[dialect]))


async def report(records: Records, replica: report_pb2.Replica) -> None:
    await records.call("Report", report_pb2.ReportRequest(replica=replica))


async def live(records: Records, *ids: str) -> dict[str, report_pb2.Replica]:
    response = await records.call("ListReports", report_pb2.ListReportsRequest())
    return {replica.id: replica for replica in response.replicas if replica.id in ids}


def test_a_report_replaces_the_last_and_is_read_by_every_replica(running: Running) -> None:
    async def scenario() -> None:
        first, second = Records(running, 0), Records(running, 1)
        one, other = f"g-{uuid.uuid4()}", f"w-{uuid.uuid4()}"
        await report(first, gateway(one, 1))
        await report(second, gateway(one, 2))
        target = report_pb2.TargetReport(provider="openai", model="gpt-4o", circuit=report_pb2.CIRCUIT_STATE_OPEN)
        worker = report_pb2.Replica(id=other, worker=report_pb2.WorkerReport(targets=[target]))
        await report(first, worker)
        found = await live(second, one, other)
        assert found[one].gateway == gateway(one, 2).gateway
        assert found[other].worker == worker.worker
        assert found[one].HasField("reported_at")

    running.wait(scenario())


def test_a_replica_that_retires_is_gone_at_once(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        one, other = f"g-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
        await report(records, gateway(one, 1))
        await report(records, gateway(other, 1))
        for _ in range(2):
            await records.call("Retire", report_pb2.RetireRequest(replica_id=one))
        assert set(await live(records, one, other)) == {other}
        await report(records, gateway(one, 3))
        assert (await live(records, one))[one].gateway.dialects[0].connections == 3

    running.wait(scenario())


def test_a_replica_that_says_nothing_for_25_s_is_gone_and_forgotten(running: Running) -> None:
    records = Records(running)
    silent, talking = f"g-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
    running.wait(report(records, gateway(silent, 1)))
    running.wait(report(records, gateway(talking, 1)))
    root = keys.reports()
    with redis_of(running, root) as redis:
        # By Redis' clock, 25 s ago.
        redis.zincrby(f"{root}:at", -25_000, silent)
        redis.zincrby(f"{root}:at", -20_000, talking)
        assert set(running.wait(live(records, silent, talking))) == {talking}
        assert redis.hexists(root, silent)
        running.wait(report(records, gateway(talking, 2)))
        assert not redis.hexists(root, silent)
        assert redis.zscore(f"{root}:at", silent) is None
        # When all have gone, so do the keys.
        assert 0 < redis.pttl(root) <= 25_000
        assert 0 < redis.pttl(f"{root}:at") <= 25_000


@pytest.mark.parametrize(
    ("replica", "reason"),
    [
        (gateway("", 1), "INVALID_ARGUMENT"),
        (gateway("a replica", 1), "INVALID_ARGUMENT"),
        (report_pb2.Replica(id="nothing"), "INVALID_ARGUMENT"),
        (
            report_pb2.Replica(
                id="much",
                worker=report_pb2.WorkerReport(targets=[report_pb2.TargetReport(model="x" * 1024)] * 1024),
            ),
            "TOO_LARGE",
        ),
    ],
)
def test_what_is_no_report_is_refused(running: Running, replica: report_pb2.Replica, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        running.wait(report(Records(running), replica))
    assert refused.value.reason == reason


def test_who_reports_and_retires_at_once_spoils_nobodys_list(running: Running) -> None:
    async def scenario() -> None:
        first, second = Records(running, 0), Records(running, 1)
        one, other = f"g-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
        await report(first, gateway(other, 1))
        for _ in range(50):
            *_, found = await asyncio.gather(
                report(first, gateway(one, 1)),
                second.call("Retire", report_pb2.RetireRequest(replica_id=one)),
                report(second, gateway(one, 2)),
                first.call("Retire", report_pb2.RetireRequest(replica_id=one)),
                live(second, other),
            )
            assert set(found) == {other}
            assert set(await live(first, other)) == {other}

    running.wait(scenario())


def test_half_a_report_is_passed_over(running: Running) -> None:
    records, root = Records(running), keys.reports()
    one, other = f"g-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
    running.wait(report(records, gateway(one, 1)))
    running.wait(report(records, gateway(other, 1)))
    # As an earlier version's Retire left it when a Report came in its middle.
    with redis_of(running, root) as redis:
        redis.hdel(root, one, f"{one}/brief")
    assert set(running.wait(live(records, one, other))) == {other}


def test_a_report_leaves_nothing_behind_when_it_is_retired(running: Running) -> None:
    records, root = Records(running), keys.reports()
    one = f"g-{uuid.uuid4()}"
    running.wait(report(records, gateway(one, 1)))
    running.wait(records.call("Retire", report_pb2.RetireRequest(replica_id=one)))
    with redis_of(running, root) as redis:
        assert not any(one.encode() in field for field in (*redis.hkeys(root), *redis.zrange(f"{root}:at", 0, -1)))


def test_more_reports_than_a_response_holds_are_told_without_their_chats(running: Running) -> None:
    async def scenario() -> None:
        records = Records(running)
        ids = [f"g-{number:02}-{uuid.uuid4()}" for number in range(24)]
        chats = {f"{number:0100}": 5 for number in range(4000)}
        for one in ids:
            replica = gateway(one, 7)
            replica.gateway.dialects[0].by_chat.update(chats)
            await report(records, replica)
        response = await records.call("ListReports", report_pb2.ListReportsRequest())
        assert response.ByteSize() < 4.1 * 1024 * 1024
        found = {replica.id: replica.gateway.dialects[0] for replica in response.replicas if replica.id in ids}
        assert [found[one].connections for one in ids] == [7] * 24
        whole = [one for one in ids if found[one].by_chat]
        assert whole == ids[: len(whole)]
        assert 5 < len(whole) < 24
        for one in ids:
            await records.call("Retire", report_pb2.RetireRequest(replica_id=one))

    running.wait(scenario())
