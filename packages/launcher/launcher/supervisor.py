"""Keeps a child running: one that dies is started again, at once the first time, more slowly when it keeps dying."""

import asyncio
import time
from collections.abc import Callable

from launcher.process import Child, ChildEndedError, describe_exit

STEADY_S = 10.0
"""One that was ready for so long has recovered: its next death is a first one."""
DELAYS_S = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Before the first restart, the second, ...; the last one holds from then on."""


async def keep_running(child: Child, notice: Callable[[str], None]) -> None:
    """Runs until the child ends because it was told to (`Child.stopping`). Says each death and each return."""
    deaths = 0
    while True:
        since = time.monotonic()
        code = await child.wait_ended()
        if child.stopping:
            return
        deaths = 1 if time.monotonic() - since > STEADY_S else deaths + 1
        ended = describe_exit(code)
        while not await _restart(child, deaths, ended, notice):
            deaths += 1
            ended = "it did not become ready"


async def _restart(child: Child, deaths: int, ended: str, notice: Callable[[str], None]) -> bool:
    """Whether there is no reason to try once more."""
    delay_s = DELAYS_S[min(deaths, len(DELAYS_S)) - 1]
    again = "" if deaths == 1 else f" again, {deaths} times in a row now"
    when = "now" if delay_s == 0 else f"in {delay_s:g} s"
    notice(f"{child.name} died{again} ({ended}); it is restarted {when}")
    await asyncio.sleep(delay_s)
    try:
        await child.start()
    except ChildEndedError:
        return False
    notice(f"{child.name} is back, ready in {child.ready_s:.2f} s")
    return True
