"""Tells the other replicas how many clients this gateway holds: now and then, and soon after it has changed.

Refuses to matter: what can't be told is told next time, and nobody is served any worse. See records.Replicas.
"""

import asyncio
import logging

from chat.errors import SwitchboardError

from gateway.headcount import Headcount
from gateway.records import Replicas

log = logging.getLogger(__name__)

_EVERY_S = 8.0
"""A report holds for 25 s: two may be lost before this gateway is taken for dead."""
_SOON_S = 1.0
"""Between two reports, however much changes: a crowd that reconnects costs no more than this."""


class Reporter:
    """Reports this gateway's connections under `replica_id`, which must be no other replica's."""

    def __init__(
        self,
        replicas: Replicas,
        headcount: Headcount,
        replica_id: str,
        *,
        every_s: float = _EVERY_S,
        soon_s: float = _SOON_S,
    ) -> None:
        self._replicas = replicas
        self._headcount = headcount
        self._replica_id = replica_id
        self._every_s = every_s
        self._soon_s = soon_s
        self._failing = False

    async def run(self) -> None:
        """Reports until it is cancelled; `retire` is to be called then."""
        changed = self._headcount.changed
        while True:
            changed.clear()
            await self._report()
            await asyncio.sleep(self._soon_s)
            try:
                async with asyncio.timeout(self._every_s - self._soon_s):
                    await changed.wait()
            except TimeoutError:
                continue

    async def retire(self) -> None:
        """This gateway holds nobody any more and is going."""
        try:
            await self._replicas.retire(self._replica_id)
        except SwitchboardError as error:
            # The report is forgotten by itself in time.
            log.info("report_not_retired", extra={"code": error.code.name})

    async def _report(self) -> None:
        try:
            await self._replicas.report(self._replica_id, self._headcount.count())
        except SwitchboardError as error:
            if not self._failing:
                log.warning("report_failed", extra={"code": error.code.name})
            self._failing = True
        else:
            self._failing = False
