"""Chats, their people and their messages."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from chat.errors import ErrorCode, SwitchboardError
from switchboard.chat.v1 import chat_pb2, event_pb2

from session import keys, scripts, stored
from session.redis_link import RedisLink, pack
from session.roles import CALLING_SERVICE, GOVERNS, READS, Asker, admitted, denied, no_chat


class Chats:
    """All chats. `now_us`: what people see of times.

    What takes an `asker` raises SwitchboardError(PERMISSION_DENIED) when that user may not have it.
    """

    def __init__(self, link: RedisLink, *, now_us: Callable[[], int]) -> None:
        self._link = link
        self._now_us = now_us

    async def create(self, given: chat_pb2.Chat, owner_username: str, ttl_s: int | None = None) -> chat_pb2.Chat:
        """Makes a chat; with a lifetime it goes when it was not used for that long, and is listed for nobody.

        Raises: SwitchboardError(ALREADY_EXISTS, UNAVAILABLE).
        """
        chat = chat_pb2.Chat()
        chat.CopyFrom(given)
        chat.ClearField("archived_at")
        chat.created_at.FromMicroseconds(self._now_us())
        owner = chat_pb2.Participant(
            user_id=chat.owner_id,
            username=owner_username,
            role=chat_pb2.PARTICIPANT_ROLE_OWNER,
            joined_at=chat.created_at,
        )
        made = await self._link.run(
            scripts.CREATE_CHAT,
            [keys.chat(chat.id)],
            stored.chat_fixed(chat),
            chat.dialect,
            chat.owner_id,
            stored.person(owner),
            "" if ttl_s is None else ttl_s,
        )
        if made < 0:
            raise SwitchboardError(ErrorCode.ALREADY_EXISTS, "this chat id is taken")
        if ttl_s is None:
            await self.list_for(chat.dialect, chat.id, [chat.owner_id])
        return await self.get(chat.id, chat.dialect)

    async def get(self, chat_id: str, dialect: str, asker: Asker = CALLING_SERVICE) -> chat_pb2.Chat:
        """A chat of a dialect (any, if empty). Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        root = keys.chat(chat_id)
        reading = self._link.execute("HMGET", root, *stored.CHAT_FIELDS)
        person = None
        if asker.user_id:
            fields, person = await asyncio.gather(reading, self._link.execute("HGET", f"{root}:people", asker.user_id))
        else:
            fields = await reading
        chat = stored.chat(fields)
        if chat is None or (dialect and chat.dialect != dialect):
            raise no_chat()
        asker.check_role(chat.owner_id, stored.role_in(person))
        return chat

    async def touch(self, chat_id: str) -> None:
        """Gives a chat with a lifetime all of it again. Raises: SwitchboardError(UNAVAILABLE)."""
        await self._link.run(scripts.TOUCH_CHAT, [keys.chat(chat_id)])

    async def list_for(self, dialect: str, chat_id: str, user_ids: Iterable[str]) -> None:
        """Puts a chat in front of its people's lists. Raises: SwitchboardError(UNAVAILABLE)."""
        for user_id in user_ids:
            await self._link.execute("ZADD", keys.user_chats(dialect, user_id), self._now_us(), chat_id)

    async def of_user(self, user_id: str, dialect: str, limit: int, offset: int) -> list[chat_pb2.Chat]:
        """A page of the chats that a user takes part in, latest activity first. Raises: SwitchboardError(UNAVAILABLE).

        The list lies in another slot than the chats: what it names wrongly is taken out as it is met.
        """
        index = keys.user_chats(dialect, user_id)
        listed: list[chat_pb2.Chat] = []
        skipped = start = 0
        while len(listed) < limit:
            ids = await self._link.execute("ZREVRANGE", index, start, start + limit + offset - skipped - 1)
            if not ids:
                break
            start += len(ids)
            for chat_id, chat in zip(ids, await asyncio.gather(*map(self._listed(user_id), ids)), strict=True):
                if chat is None:
                    await self._link.execute("ZREM", index, chat_id)
                    start -= 1
                elif chat.HasField("archived_at"):
                    continue
                elif skipped < offset:
                    skipped += 1
                elif len(listed) < limit:
                    listed.append(chat)
        return listed

    def _listed(self, user_id: str) -> Callable[[bytes], "asyncio.Future[chat_pb2.Chat | None]"]:
        async def read(chat_id: bytes) -> chat_pb2.Chat | None:
            root = keys.chat(chat_id.decode())
            if not await self._link.execute("HEXISTS", f"{root}:people", user_id):
                return None
            return stored.chat(await self._link.execute("HMGET", root, *stored.CHAT_FIELDS))

        return lambda chat_id: asyncio.ensure_future(read(chat_id))

    async def update(
        self, given: chat_pb2.Chat, asker: Asker = CALLING_SERVICE, *, expected_revision: int = 0
    ) -> chat_pb2.Chat:
        """Replaces what may change of a chat, if its settings have this revision; 0: whichever they have.

        Raises: SwitchboardError(NOT_FOUND, CONFLICT: another one, UNAVAILABLE).
        """
        chat = await self.get(given.id, "")
        chat.title = given.title
        chat.description = given.description
        for name in ("answers", "attributes", "archived_at"):
            chat.ClearField(name)
            if given.HasField(name):
                getattr(chat, name).CopyFrom(getattr(given, name))
        # The script says which it is.
        chat.ClearField("revision")
        event = event_pb2.Event(chat_updated=event_pb2.ChatUpdated(chat=chat))
        await self._change(
            chat.id,
            "",
            "meta",
            stored.chat_fixed(chat),
            event,
            asker,
            archived=chat.HasField("archived_at"),
            expected_revision=expected_revision,
        )
        return await self.get(chat.id, "")

    async def delete(self, chat_id: str, reason: str, asker: Asker = CALLING_SERVICE) -> None:
        """Deletes a chat; one that is not there is fine. Raises: SwitchboardError(UNAVAILABLE)."""
        event = event_pb2.Event(chat_deleted=event_pb2.ChatDeleted(reason=reason))
        # The lists that name it are mended as they are read.
        admitted(
            await self._link.run_packed(
                scripts.DELETE_CHAT,
                [keys.chat(chat_id)],
                self._link.publish_command,
                self._link.channel(chat_id),
                event.SerializeToString(),
                *asker.arguments,
            )
        )

    async def put_participant(
        self, chat_id: str, given: chat_pb2.Participant, asker: Asker = CALLING_SERVICE
    ) -> chat_pb2.Participant:
        """Adds somebody, or changes their role; the owner's can't be.

        Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE).
        """
        chat = await self.get(chat_id, "")
        known = await self._link.execute("HGET", f"{keys.chat(chat_id)}:people", given.user_id)
        participant = chat_pb2.Participant()
        participant.CopyFrom(given)
        if known is None:
            participant.joined_at.FromMicroseconds(self._now_us())
        else:
            participant.joined_at.CopyFrom(stored.participant(known).joined_at)
        event = event_pb2.Event(participant_added=event_pb2.ParticipantAdded(participant=participant))
        await self._change(chat_id, ":people", participant.user_id, stored.person(participant), event, asker)
        await self.list_for(chat.dialect, chat_id, [participant.user_id])
        return participant

    async def remove_participant(self, chat_id: str, user_id: str, asker: Asker = CALLING_SERVICE) -> None:
        """Removes somebody; who is not there is fine, the owner can't be.

        Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE).
        """
        chat = await self.get(chat_id, "")
        event = event_pb2.Event(participant_removed=event_pb2.ParticipantRemoved(user_id=user_id))
        await self._change(chat_id, ":people", user_id, False, event, asker)
        await self._link.execute("ZREM", keys.user_chats(chat.dialect, user_id), chat_id)

    async def participants(self, chat_id: str, asker: Asker = CALLING_SERVICE) -> list[chat_pb2.Participant]:
        """A chat's people, by the time they joined. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        _, blobs = await asyncio.gather(
            self.get(chat_id, "", asker), self._link.execute("HVALS", f"{keys.chat(chat_id)}:people")
        )
        people = map(stored.participant, blobs)
        return sorted(people, key=lambda one: (one.joined_at.seconds, one.joined_at.nanos, one.user_id))

    async def messages(
        self, chat_id: str, limit: int, offset: int, *, from_end: bool, asker: Asker = CALLING_SERVICE
    ) -> tuple[list[chat_pb2.Message], int]:
        """A page of the history, oldest first, and how long it is. Raises: SwitchboardError(NOT_FOUND, UNAVAILABLE)."""
        raw = await self._link.run_packed(
            scripts.READ_MESSAGES,
            [keys.chat(chat_id)],
            limit,
            offset,
            1 if from_end else 0,
            stored.PAGE_BYTES,
            *asker.arguments,
        )
        total, first, parts, answer_sequence, text = admitted(raw)
        return stored.messages(int(first), parts, int(answer_sequence), text), int(total)

    async def message(self, chat_id: str, message_id: str, asker: Asker) -> chat_pb2.Message:
        """One message. Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE)."""
        sequence = int(await self._link.execute("HGET", f"{keys.chat(chat_id)}:ids", message_id) or 0)
        # Also where there is none: who has no part in the chat is not told what is in it.
        found, _ = await self.messages(chat_id, 1, max(0, sequence - 1), from_end=False, asker=asker)
        if not sequence or not found:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no such message in this chat")
        return found[0]

    async def edit_message(
        self, chat_id: str, message_id: str, content: str, asker: Asker = CALLING_SERVICE
    ) -> chat_pb2.Message:
        """Replaces a message's content. What somebody sent is edited by nobody else, and an instruction only while they
        govern; an answer by whoever governs.

        Raises: SwitchboardError(NOT_FOUND, PERMISSION_DENIED: an answer under way, or not theirs, UNAVAILABLE).
        """
        root = keys.chat(chat_id)
        reading = self._link.execute("HGET", f"{root}:ids", message_id)
        if asker.user_id:
            # Who has no part in the chat is not told what is in it.
            _, found_sequence = await asyncio.gather(self.get(chat_id, "", replace(asker, weakest=READS)), reading)
        else:
            found_sequence = await reading
        if found_sequence is None:
            raise SwitchboardError(ErrorCode.NOT_FOUND, "no such message in this chat")
        sequence = int(found_sequence)
        if asker.user_id:
            known = chat_pb2.Message.FromString(await self._link.execute("HGET", f"{root}:messages", sequence) or b"")
            # Neither sender nor role ever changes: what was so when it was read is so when it is edited.
            if known.role != chat_pb2.ROLE_ASSISTANT and known.sender_id != asker.user_id:
                raise denied()
            if known.role != chat_pb2.ROLE_USER:
                asker = replace(asker, weakest=GOVERNS)
        patch = chat_pb2.Message()
        patch.edited_at.FromMicroseconds(self._now_us())
        event = event_pb2.Event(
            message_edited=event_pb2.MessageEdited(message_id=message_id, content=content, edited_at=patch.edited_at)
        )
        done = await self._change(
            chat_id, ":messages", f"t{sequence}", content.encode(), event, asker, sequence=sequence, patch=patch
        )
        if not done:
            raise SwitchboardError(ErrorCode.PERMISSION_DENIED, "an answer can be edited once it has ended")
        found, _ = await self.messages(chat_id, 1, sequence - 1, from_end=False)
        return found[0]

    async def _change(
        self,
        chat_id: str,
        suffix: str,
        name: str,
        value: bytes | bool,
        event: event_pb2.Event,
        asker: Asker,
        *,
        archived: bool | None = None,
        expected_revision: int = 0,
        sequence: int = 0,
        patch: chat_pb2.Message | None = None,
    ) -> bool:
        arguments: Sequence[object] = [
            suffix,
            name,
            value,
            archived,
            sequence,
            patch.SerializeToString() if patch else b"",
            event.SerializeToString(),
            *asker.arguments,
            expected_revision,
        ]
        outcome = await self._link.run_packed(
            scripts.CHANGE_CHAT,
            [keys.chat(chat_id)],
            self._link.publish_command,
            self._link.channel(chat_id),
            pack(arguments),
        )
        if admitted(outcome) == b"conflict":
            raise SwitchboardError(
                ErrorCode.CONFLICT, "the chat was changed meanwhile; read it and change what it is now"
            )
        return bool(outcome == b"done")
