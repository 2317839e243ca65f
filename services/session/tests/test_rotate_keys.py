"""`python -m session.rotate_keys`, as an operator runs it beside a running service."""

import base64
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from runtime.environment import Environment
from session import keys, scripts
from session.envelope import MasterKeys
from session.provider_keys import ProviderKeys, Rotation
from session.redis_cluster import ClusterLink
from session.redis_link import Script
from session.redis_server import ServerLink
from session.settings import read_master_keys

from .conftest import Running
from .records import Records
from .test_provider_keys import KEY, delete, listed, new_user, put, reveal, store_record, stored_record

NEW = f"new:{base64.b64encode(os.urandom(32)).decode()}"


def rotate(running: Running, master_keys: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        **running.environment,
        "REDIS_URL": running.stack.redis_url,
        "MASTER_KEYS": master_keys,
    }
    command = [sys.executable, "-m", "session.rotate_keys"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def master_of(record: bytes) -> str:
    return str(msgpack.unpackb(msgpack.unpackb(record)[2])[1])


def sealed_of(record: bytes) -> bytes:
    return bytes(msgpack.unpackb(msgpack.unpackb(record)[2])[3])


def test_after_a_rotation_the_old_master_key_can_go(alone: Running) -> None:
    records = Records(alone)
    users = [new_user() for _ in range(40)]
    for user in users:
        alone.wait(put(records, user))
    alone.wait(put(records, users[0], "anthropic", "sk-ant-12345678"))
    before = [stored_record(alone, user) for user in users]
    old = alone.stack.secrets.values["MASTER_KEYS"]
    done = rotate(alone, f"{NEW},{old}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == "under 'new' now: 41 keys, 41 of them wrapped anew; could not be opened: 0"
    after = [stored_record(alone, user) for user in users]
    assert {master_of(record) for record in after} == {"new"}
    assert list(map(sealed_of, after)) == list(map(sealed_of, before))
    # Nothing of any secret is printed.
    assert KEY not in done.stdout + done.stderr
    assert NEW.partition(":")[2] not in done.stdout + done.stderr

    again = rotate(alone, f"{NEW},{old}").stdout.splitlines()[-1]
    assert again == "under 'new' now: 41 keys, 0 of them wrapped anew; could not be opened: 0"
    assert [stored_record(alone, user) for user in users] == after

    # A replica that was not told of the new one reveals nothing; told of nothing else, it reveals all.
    assert alone.wait(reveal(records, users[0])) == {}
    alone.wait(alone.stack.sessions[0].restart({"MASTER_KEYS": NEW}))
    assert alone.wait(reveal(records, users[0])) == {"openai": KEY, "anthropic": "sk-ant-12345678"}
    assert alone.wait(listed(records, users[0])) == [("anthropic", 1), ("openai", 1)]
    assert alone.wait(put(records, users[0])).version == 2


def test_a_key_whose_master_key_is_gone_is_counted_left_alone_and_fails_the_command(alone: Running) -> None:
    records = Records(alone)
    user, broken = new_user(), new_user()
    alone.wait(put(records, user))
    alone.wait(put(records, broken))
    record = stored_record(alone, user)
    done = rotate(alone, NEW)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "under 'new' now: 0 keys, 0 of them wrapped anew; could not be opened: 2"
    assert stored_record(alone, user) == record
    # One that was changed keeps none of the others from being wrapped.
    store_record(alone, broken, msgpack.packb([1, 1, b"no envelope"]))
    done = rotate(alone, f"{NEW},{alone.stack.secrets.values['MASTER_KEYS']}")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "under 'new' now: 1 keys, 1 of them wrapped anew; could not be opened: 1"
    assert master_of(stored_record(alone, user)) == "new"


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_key_that_changes_while_it_is_rewrapped_is_neither_lost_nor_brought_back(
    running: Running, change: str
) -> None:
    records = Records(running)
    old = running.stack.secrets.values["MASTER_KEYS"]
    user = new_user()

    async def change_it() -> None:
        if change == "replaced":
            await put(records, user, key="sk-the-second")
        else:
            await delete(records, user)

    class Interrupted(ClusterLink if running.cluster else ServerLink):  # type: ignore[misc]
        """The real link, with somebody else's change right before the first rewrapping."""

        changed = False

        async def run(self, script: Script, key_names: Sequence[str], *arguments: str | bytes | int) -> Any:
            if script is scripts.REWRAP_KEY and key_names == [keys.provider_keys(user)] and not self.changed:
                self.changed = True
                await change_it()
            return await super().run(script, key_names, *arguments)

    async def scenario() -> Rotation:
        await put(records, user, key="sk-the-first")
        link = Interrupted(running.stack.redis_url)
        master_keys = MasterKeys(read_master_keys(Environment({"MASTER_KEYS": f"{NEW},{old}"})))
        provider_keys = ProviderKeys(link, master_keys, now_us=lambda: 0)
        rotation = Rotation()
        await provider_keys.rotate(keys.partition(user), rotation)
        assert link.changed
        opened, closed = await provider_keys.reveal(user)
        assert opened == ({"openai": "sk-the-second"} if change == "replaced" else {})
        assert closed == []
        await link.close()
        return rotation

    assert running.wait(scenario()).failed == 0
    if change == "replaced":
        # By a service that did not know of the new master key yet.
        assert master_of(stored_record(running, user)) == "new"


def test_without_master_keys_it_says_so(running: Running) -> None:
    done = rotate(running, "")
    assert (done.returncode, done.stderr.strip()) == (2, "session.rotate_keys: MASTER_KEYS must be set")
    done = rotate(running, "id:tooshort")
    assert done.returncode == 2
    assert "MASTER_KEYS: number 1 must be" in done.stderr
    assert "tooshort" not in done.stderr
