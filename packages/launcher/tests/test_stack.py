"""A stack in the hands of a test: parts of it, several of a kind, killed and started again, and nothing left behind."""

import asyncio
import base64
import urllib.request
from pathlib import Path

import psutil
import pytest
from launcher.data_dir import DataDirTakenError
from launcher.process import ChildEndedError
from launcher.stack import Stack


async def get(url: str) -> int:
    def ask() -> int:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  (our own)
            return int(answer.status)

    return await asyncio.to_thread(ask)


async def test_several_of_a_kind_run_and_each_can_be_killed_and_started_again() -> None:
    async with Stack(sessions=2, workers=2, gateways=2) as stack:
        assert len(set(stack.gateway_urls)) == len(set(stack.session_addresses)) == 2
        assert [child.name for child in stack.workers] == ["worker-1", "worker-2"]
        pids = [child.pid for child in stack.children]
        for group in (stack.sessions, stack.workers, stack.gateways):
            old = group[0].pid
            await group[0].kill()
            assert not group[0].running
            await group[0].start()
            assert group[0].pid != old
        await stack.gateways[1].stop()
        assert stack.gateways[1].exit_code == 0
        await stack.wait_serving()
        assert await get(f"{stack.gateway_urls[0]}/readyz") == 200
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_simulator_alone_is_a_stack_too() -> None:
    async with Stack(sessions=0, workers=0, gateways=0, redis=False) as stack:
        assert [child.name for child in stack.children] == ["simulator"]
        assert await get(f"{stack.simulator_url}/livez") == 200


async def test_the_caller_s_environment_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a developer's own")
    monkeypatch.setenv("REDIS_URL", "redis://somewhere.else")
    async with Stack(gateways=0, environment={"SWITCHBOARD__WORKER__MAX_TURNS": "7"}) as stack:
        worker = psutil.Process(stack.workers[0].pid).environ()
        session = psutil.Process(stack.sessions[0].pid).environ()
    assert worker["OPENAI_API_KEY"] == "simulator"
    assert worker["SWITCHBOARD__WORKER__MAX_TURNS"] == "7"
    assert session["REDIS_URL"] == stack.redis_url


async def test_what_opens_users_keys_is_shown_to_who_needs_it_and_nobody_else() -> None:
    given = {"MASTER_KEYS": f"given:{base64.b64encode(bytes(32)).decode()}", "WORKER_TOKEN": "new,old"}
    async with Stack(environment=given) as stack:
        parts = [stack.sessions[0], stack.workers[0], stack.gateways[0], stack.simulator]
        session, worker, *others = [psutil.Process(part.pid).environ() for part in parts if part is not None]
    assert {name: session[name] for name in given} == given
    assert worker["WORKER_TOKEN"] == "new"
    assert "MASTER_KEYS" not in worker
    assert len(others) == 2
    assert not any(name in environment for environment in others for name in given)


async def test_nothing_runs_when_a_part_can_t_start() -> None:
    stack = Stack(environment={"DRAIN_SECONDS": "soon"})
    with pytest.raises(ChildEndedError) as caught:
        await stack.__aenter__()
    assert caught.value.exit_code == 2
    assert not [child for child in stack.children if child.running]
    assert not stack.data_dir.exists()


async def test_a_data_directory_belongs_to_one_stack_at_a_time(tmp_path: Path) -> None:
    def redis_alone() -> Stack:
        return Stack(sessions=0, workers=0, gateways=0, simulator=False, data_dir=tmp_path / "data")

    async with redis_alone():
        with pytest.raises(DataDirTakenError):
            await redis_alone().__aenter__()
    async with redis_alone() as again:
        assert again.redis is not None
        assert again.redis.ready


async def test_cancelled_while_it_starts_it_leaves_nothing() -> None:
    stack = Stack()
    starting = asyncio.create_task(stack.__aenter__())
    while stack.redis is None or not stack.redis.ready:
        await asyncio.wait({starting}, timeout=0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not [child for child in stack.children if child.running]
