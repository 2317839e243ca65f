"""The names of Redis keys, and which partition a chat lies in. What the keys hold stands in `lua/lib.lua`.

Every key begins with a hash tag, `{n}`, of one of `PARTITIONS` partitions: a chat keeps to one slot of a cluster,
many chats share a tag, and subscribing to all of them is a fixed number of commands. The tags are chosen so that each
partition lies in another 128th of the slots: plain numbers fall 15 to 27 to a node of six (centrifuge#554).
"""

from binascii import crc_hqx
from functools import cache
from zlib import crc32

PARTITIONS = 128
"""Fixed for the life of the stored chats: another number would look for them elsewhere."""
_SLOTS = 16384


def _slot(tag_name: str) -> int:
    # Redis Cluster's hash: CRC16/XMODEM of what stands between the braces.
    return crc_hqx(tag_name.encode(), 0) % _SLOTS


@cache
def _tags() -> tuple[str, ...]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        found.setdefault(partition_at(_slot(str(number))), "{" + str(number) + "}")
        number += 1
    return tuple(found[index] for index in range(PARTITIONS))


@cache
def _partitions() -> dict[str, int]:
    return {tag(index): index for index in range(PARTITIONS)}


def partition(name: str) -> int:
    """The partition of a chat by its id, or of anything else by its name."""
    return crc32(name.encode()) % PARTITIONS


def partition_of(key: str) -> int:
    """The partition of a key, or of a partition's channel, by its tag."""
    return _partitions()[key[: key.index("}") + 1]]


def partition_at(slot: int) -> int:
    """The partition whose 128th of a cluster's slots this is one of."""
    return slot // (_SLOTS // PARTITIONS)


def tag(index: int) -> str:
    """The hash tag of a partition, braces included."""
    return _tags()[index]


@cache
def slot(index: int) -> int:
    """The slot of a cluster that a partition lies in."""
    return _slot(tag(index)[1:-1])


def chat(chat_id: str) -> str:
    """The root of a chat's keys. The slash is in no id: no chat's root is another's key."""
    return f"{tag(partition(chat_id))}c:{chat_id}/"


def due(index: int) -> str:
    """The turns of a partition that may be claimed, by when."""
    return f"{tag(index)}due"


def deadlines(index: int) -> str:
    """The turns of a partition that must end, by when."""
    return f"{tag(index)}deadlines"


def dialect_session(dialect: str, name: str) -> str:
    """The session open under a name. A dialect has no colon (checks.py): what is another pair has another key."""
    return f"{tag(partition(name))}s:{dialect}:{name}"


def user_chats(dialect: str, user_id: str) -> str:
    """A user's chats, by last activity. A dialect has no colon, as above."""
    return f"{tag(partition(user_id))}u:{dialect}:{user_id}"


def profiles(user_id: str) -> str:
    """A user's profiles: hash, dialect -> Profile as protobuf."""
    return f"{tag(partition(user_id))}profiles:{user_id}"


def provider_keys(user_id: str) -> str:
    """The root of a user's own provider keys, all encrypted (provider_keys.py).

    <root>:records   hash  provider -> record (msgpack: version, updated_at in microseconds, envelope)
    <root>:versions  hash  provider -> highest version ever; kept when a key is deleted, so that none comes twice

    Nothing lies at the root itself: a user whose name ends in ":versions" would share it with another.
    """
    return f"{tag(partition(user_id))}keys:{user_id}"


def key_holders(index: int) -> str:
    """The users of a partition that have provider keys: a set, for who must look at all of them."""
    return f"{tag(index)}key-holders"


def limited(kind: str, subject_id: str) -> str:
    """The root of what one subject has used of its limits; the first two expire when nothing of them is in use.

    <root>:next        string  when the whole quota of messages is there again, microseconds (GCRA's theoretical
                               arrival)
    <root>:answers     zset    answers under way, by their latest end (ms)
    <root>:used:<day>  hash    a user's usage of a day (its number since 1970, UTC): usage.py says more

    Beside them, so that nothing is counted twice, by the hour (its number since 1970) and gone at the end of the next:
    {tag}recorded:<hour>  set  digests of the ids of what was recorded for users of the partition
    """
    return f"{tag(partition(subject_id))}limit:{kind}:{subject_id}"


def reports() -> str:
    """The root of the replicas' reports, in one slot: they are few, and read together.

    <root>      hash  replica -> Replica as protobuf; <replica>/brief -> the same in brief, where that is another
    <root>:at   zset  replica, by when it said so (ms)
    """
    return f"{tag(partition('reports'))}reports"


def channel(index: int | None) -> str:
    """Where a partition's events are announced; None: all partitions' together, where one server holds them all."""
    return "switchboard:events" if index is None else f"{tag(index)}events"
