"""What answers have cost, by user and day: counted once for each record, read for a user's range of days.

A user's day is one hash, in the slot of the user's limits: so the script that counts a message knows the day's tokens
without another call. Its fields: `answers`; `budget`, the tokens that count against the day's budget; and for each
model used five sums, each under a letter of its own with [provider, model, own_key] in msgpack behind it. What is zero
may be missing. Days are UTC, by Redis' clock. See docs/subsystems/limits.md.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from hashlib import blake2b
from typing import Any

from switchboard.chat.v1 import chat_pb2
from switchboard.session.v1 import usage_pb2

from session import keys, scripts
from session.checks import invalid
from session.redis_link import RedisLink, pack, unpack

KEPT_DAYS = 400
"""After its end a day is read for so long: a year, and time to look at it."""
MOST_DAYS = 366
"""That are asked for at once."""
_DAYS_AT_MOST = 92
"""Read in one script call. With six models a day that holds the server for 1.4 ms and this process for ten, which
everybody else's answers then wait."""
_DIGEST_BYTES = 12
"""Of a record's id, which may have 128: among a million ids two are mistaken for one another once in 10**17 times."""
_MOST = 2**63 - 1
"""What a sum stays at, in Redis as in what is read."""
_MAX_COUNT = 10**12
"""What one attempt counts for at the most, in tokens and in billionths of a dollar: no call comes near."""
_SUMS_AT_MOST = 1000
"""Added in one script call: at 2.5 us each it holds the server for 2.5 ms, as the largest append does."""
_EPOCH = date(1970, 1, 1).toordinal()

_ATTEMPTS, _INPUT, _OUTPUT, _COST, _ESTIMATED = b"n", b"i", b"o", b"c", b"e"


class UsageByDay:
    """All users' usage."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def record(self, records: Sequence[usage_pb2.UsageRecord]) -> None:
        """Adds to today's usage what was not recorded in the last hour. Raises: SwitchboardError(UNAVAILABLE: some may
        have been added)."""

        async def add(group: Sequence[usage_pb2.UsageRecord]) -> None:
            for batch in _batches(group):
                roots = [_root(record.user_id) for record, _ in batch]
                given = [[_digest(record.id), sums] for record, sums in batch]
                await self._link.run(scripts.RECORD_USAGE, roots, pack(given), KEPT_DAYS)

        groups = self._link.groups(records, lambda record: record.user_id)
        for outcome in await asyncio.gather(*map(add, groups), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def read(self, user_id: str, first: date | None, last: date | None) -> list[usage_pb2.DayUsage]:
        """The days on which something was used, the oldest first; None: today.

        Raises: SwitchboardError(INVALID_ARGUMENT: the last is not among the `MOST_DAYS` from the first, UNAVAILABLE).
        """
        found: list[usage_pb2.DayUsage] = []
        begin, end = _number(first), _number(last)
        while True:
            begin_day, end_day, days = await self._link.run_packed(
                scripts.READ_USAGE, [_root(user_id)], begin, end, _DAYS_AT_MOST
            )
            if begin_day > end_day:
                raise invalid("to_day", "must not be before from_day")
            if end_day - begin_day >= MOST_DAYS:
                raise invalid("to_day", f"must be one of the {MOST_DAYS} days that begin with from_day")
            found.extend(_day_usage(number, fields) for number, fields in days)
            if end_day - begin_day < _DAYS_AT_MOST:
                return found
            # What was today is said from here on: it may be another day by now.
            begin, end = str(begin_day + _DAYS_AT_MOST), str(end_day)


def _root(user_id: str) -> str:
    return keys.limited("user", user_id)


def _number(day: date | None) -> str:
    return "" if day is None else str(day.toordinal() - _EPOCH)


def _digest(record_id: str) -> bytes:
    return blake2b(record_id.encode(), digest_size=_DIGEST_BYTES).digest()


def _batches(
    records: Iterable[usage_pb2.UsageRecord],
) -> Iterator[list[tuple[usage_pb2.UsageRecord, list[bytes]]]]:
    """Records with what they add, in portions for one script call each."""
    batch: list[tuple[usage_pb2.UsageRecord, list[bytes]]] = []
    size = 0
    for record in records:
        sums = _sums(record)
        # Two more for the record itself.
        size += len(sums) // 2 + 2
        if batch and size > _SUMS_AT_MOST:
            yield batch
            batch, size = [], len(sums) // 2 + 2
        batch.append((record, sums))
    yield batch


def _sums(record: usage_pb2.UsageRecord) -> list[bytes]:
    """A record as record_usage.lua takes it: fields, each followed by what is added to it."""
    sums: Counter[bytes] = Counter()
    for attempt in record.attempts:
        model = pack([attempt.provider, attempt.model, attempt.own_key])
        usage = attempt.usage
        input_tokens, output_tokens = min(usage.input_tokens, _MAX_COUNT), min(usage.output_tokens, _MAX_COUNT)
        sums[_ATTEMPTS + model] += 1
        sums[_INPUT + model] += input_tokens
        sums[_OUTPUT + model] += output_tokens
        sums[_COST + model] += min(usage.cost_nano_usd, _MAX_COUNT)
        sums[_ESTIMATED + model] += usage.estimated
        if not attempt.own_key:
            sums[b"budget"] += input_tokens + output_tokens
    return [part for field, added in sums.items() if added for part in (field, b"%d" % added)]


def _day_usage(number: int, fields: Sequence[bytes]) -> usage_pb2.DayUsage:
    day = usage_pb2.DayUsage(day=date.fromordinal(_EPOCH + number).isoformat())
    models: dict[bytes, Counter[bytes]] = {}
    for index in range(0, len(fields), 2):
        field, value = fields[index], int(fields[index + 1])
        match field:
            case b"answers":
                day.answers = value
            case b"budget":
                day.budget_tokens = value
            case _:
                models.setdefault(field[1:], Counter())[field[:1]] = value
    total: Counter[bytes] = Counter()
    named: list[tuple[list[Any], Counter[bytes]]] = [(unpack(model), sums) for model, sums in models.items()]
    for (provider, model, own_key), sums in sorted(named, key=lambda one: one[0]):
        total.update(sums)
        day.models.add(
            provider=provider.decode(),
            model=model.decode(),
            own_key=own_key,
            attempts=sums[_ATTEMPTS],
            usage=_usage(sums),
        )
    day.usage.CopyFrom(_usage(total))
    return day


def _usage(sums: Counter[bytes]) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=min(sums[_INPUT], _MOST),
        output_tokens=min(sums[_OUTPUT], _MOST),
        estimated=sums[_ESTIMATED] > 0,
        cost_nano_usd=min(sums[_COST], _MOST),
    )
