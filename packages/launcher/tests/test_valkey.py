"""The embedded Redis keeps what it acknowledged, and keeps strangers out."""

from pathlib import Path

import pytest
import redis.asyncio
import redis.exceptions
from launcher.stack import Stack


def redis_alone(directory: Path, appendfsync: str = "everysec") -> Stack:
    return Stack(sessions=0, workers=0, gateways=0, simulator=False, data_dir=directory, appendfsync=appendfsync)


async def connect(stack: Stack) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(stack.redis_url)


async def test_it_writes_an_append_only_file_and_nothing_is_lost_by_kill_9(tmp_path: Path) -> None:
    async with redis_alone(tmp_path / "data", appendfsync="always") as stack:
        assert stack.redis is not None
        client = await connect(stack)
        assert await client.config_get("append*") == {
            "appendonly": "yes",
            "appendfsync": "always",
            "appendfilename": "appendonly.aof",
            "appenddirname": "appendonlydir",
        }
        for n in range(100):
            await client.rpush("log", n)
        await client.aclose()
        await stack.redis.kill()
        assert stack.redis.exit_code == -9
        await stack.redis.start()
        client = await connect(stack)
        assert await client.llen("log") == 100
        await client.aclose()
    async with redis_alone(tmp_path / "data") as stack:
        client = await connect(stack)
        assert await client.llen("log") == 100
        await client.aclose()


async def test_it_listens_on_loopback_only_and_wants_its_password(tmp_path: Path) -> None:
    async with redis_alone(tmp_path / "data") as stack:
        client = await connect(stack)
        assert await client.config_get("bind") == {"bind": "127.0.0.1"}
        port = client.connection_pool.connection_kwargs["port"]
        await client.aclose()
        stranger = redis.asyncio.Redis(port=port)
        with pytest.raises(redis.exceptions.AuthenticationError):
            await stranger.ping()
        await stranger.aclose()
        configuration = stack.data_dir / "redis/valkey.conf"
        assert configuration.stat().st_mode & 0o777 == 0o600
