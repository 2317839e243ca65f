"""`python -m session.rotate_keys`: wraps every user's own provider keys under the current master key.

The current one is the first of MASTER_KEYS; the ones that wrapped the keys so far must stand behind it. Reads Redis
directly (REDIS_URL, REDIS_CLUSTER), beside running services; can be stopped and run again at any time. Says how many it
found, never which secrets. Ends with 1 when some could not be opened: then the old master keys are still needed, or are
gone. What to do around it: docs/subsystems/users.md.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from itertools import chain

from chat.errors import SwitchboardError
from runtime import logs
from runtime.environment import Environment, SettingError

from session.envelope import MasterKeys
from session.provider_keys import ProviderKeys, Rotation
from session.redis_cluster import ClusterLink
from session.redis_link import RedisLink
from session.redis_server import ServerLink
from session.settings import read_master_keys, read_redis

_SAY_EVERY = 16


async def rotate(link: RedisLink, master_keys: MasterKeys, say: Callable[[str], None]) -> Rotation:
    """Goes through all partitions. Raises: SwitchboardError(UNAVAILABLE); what is done then stays done."""
    provider_keys = ProviderKeys(link, master_keys, now_us=lambda: 0)
    rotation = Rotation()
    partitions = list(chain.from_iterable(link.partition_groups()))
    for done, index in enumerate(partitions, 1):
        await provider_keys.rotate(index, rotation)
        if done % _SAY_EVERY == 0:
            say(f"{done} of {len(partitions)} partitions: {rotation.rewrapped} keys wrapped anew")
    say(
        f"under {master_keys.current!r} now: {rotation.current + rotation.rewrapped} keys, "
        f"{rotation.rewrapped} of them wrapped anew; could not be opened: {rotation.failed}"
    )
    return rotation


async def _main(url: str, *, cluster: bool, master_keys: MasterKeys) -> int:
    link = ClusterLink(url) if cluster else ServerLink(url)
    try:
        rotation = await rotate(link, master_keys, say=lambda text: print(text, flush=True))
    finally:
        await link.close()
    return 1 if rotation.failed else 0


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="session.rotate_keys", description="Wrap users' provider keys under the first of MASTER_KEYS."
    ).parse_args()
    logs.configure("rotate_keys", "warning")
    try:
        environment = Environment(os.environ)
        # Which must be set: the new master key first, the old ones behind it.
        environment.text("MASTER_KEYS")
        master_keys = MasterKeys(read_master_keys(environment))
        redis_url, redis_cluster = read_redis(environment)
        sys.exit(asyncio.run(_main(redis_url, cluster=redis_cluster, master_keys=master_keys)))
    except SettingError as error:
        print(f"session.rotate_keys: {error}", file=sys.stderr)
        sys.exit(2)
    except SwitchboardError as error:
        sys.exit(f"session.rotate_keys: {error}")
