"""What every dialect that chats over WebSockets owes its clients, over real sockets and processes."""

from __future__ import annotations

import signal
import uuid
from urllib.parse import urlencode

import pytest
from launcher.stack import Stack

from ..client import Socket, http
from ..conftest import NOBODY, System
from ..worker import Turn, Worker
from .driver import DRIVERS, Driver, Heard, Place, SpeaksByHttp, Visitor, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture(params=sorted(name for name, driver in DRIVERS.items() if driver.streams))
def streaming(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


class Chat:
    """One chat of a dialect in the running system."""

    def __init__(self, system: System, driver: Driver, place: Place, chat_id: str) -> None:
        self.system = system
        self.driver = driver
        self.place = place
        self.id = chat_id

    @classmethod
    async def make(cls, system: System, driver: Driver) -> Chat:
        place = await driver.enter(system.stack)
        return cls(system, driver, place, await driver.chat_id(system.worker, place))

    async def visit(self, *, replica: int = 0, small: bool = False, **query: str) -> Visitor:
        return await visit(self.driver, self.system.urls[replica], self.place, small=small, **query)

    async def turn(self) -> Turn:
        return await self.system.worker.claim(self.id)


async def visit(driver: Driver, url: str, place: Place, *, small: bool = False, **query: str) -> Visitor:
    address = url.replace("http", "ws") + place.path
    if query:
        address += ("&" if "?" in place.path else "?") + urlencode(query)
    socket = await Socket.open(address, small=small, headers=place.headers)
    return Visitor(driver, socket, url, place, query.get("client_id", ""))


async def present(visitor: Visitor) -> Visitor:
    """Known to be let in and to hear all that is said from now on."""
    await visitor.socket.send(visitor.driver.junk()[0])
    assert (await visitor.hear()).kind == "error"
    return visitor


async def test_an_answer_comes_in_order_and_nothing_twice(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    for number in range(3):
        await client.say(f"question {number}")
        turn = await chat.turn()
        for word in range(50):
            await turn.say(f"{number}.{word} ")
        await turn.complete()
        heard = await client.hear_answer()
        assert driver.seen(heard[-1].text).split() == [f"{number}.{word}" for word in range(50)]
        assert shown(heard) == heard[-1].text
    await client.socket.close()


async def test_every_reader_on_every_replica_sees_the_same(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    clients = [await present(await chat.visit(replica=replica)) for replica in (0, 0, 1, 1)]
    await clients[3].say("question")
    turn = await chat.turn()
    await turn.say("one ", "two ")
    await turn.say("three")
    await turn.complete()
    answers = [await client.hear_answer() for client in clients]
    assert {shown(heard) for heard in answers} == {answers[0][-1].text}
    for client in clients:
        await client.socket.close()


async def test_who_comes_mid_answer_gets_the_text_so_far_and_then_the_rest(system: System, streaming: Driver) -> None:
    driver = streaming
    chat = await Chat.make(system, driver)
    first = await chat.visit()
    await first.say("question")
    turn = await chat.turn()
    await turn.say("one ", "two ")
    await first.hear_text("two")
    for replica in (0, 1):
        late = await chat.visit(replica=replica)
        so_far = await late.hear_text("one two")
        await turn.say(f"three{replica} ")
        rest = await late.hear_text(f"three{replica}")
        assert driver.seen(shown(so_far + rest)).endswith(f"three{replica} ")
        await late.socket.close()
    last = await chat.visit()
    await last.hear_text("one")
    await turn.complete()
    heard = await first.hear_answer()
    assert (await last.hear_answer())[-1].text == heard[-1].text
    await first.socket.close()
    await last.socket.close()


async def test_who_resumes_at_any_position_gets_exactly_the_rest(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit(positions="true")
    await client.say("question")
    turn = await chat.turn()
    heard: list[Heard] = []
    for text in ("one ", "**two", " three** ", "four"):
        await turn.say(text)
        heard += await client.hear_text(driver.seen(text.replace("*", "").strip()))
    await turn.complete()
    heard += await client.hear_answer()
    assert all(one.position for one in heard)
    assert len({one.position for one in heard}) == len(heard)
    for index, one in enumerate(heard[:-1]):
        again = await chat.visit(replica=index % 2, after=one.position)
        rest = await again.hear_answer()
        assert shown(rest) == shown(heard[index + 1 :]), one.position
        assert rest[-1].text == heard[-1].text
        assert not any(other.position for other in rest)
        await again.socket.close()
    await client.socket.close()


async def test_who_has_seen_everything_resumes_and_hears_nothing_old(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit(positions="true")
    for answer in ("first", "second"):
        await client.say("question")
        turn = await chat.turn()
        await turn.say(answer)
        await turn.complete()
        heard = await client.hear_answer()
        assert driver.seen(shown(heard)) == answer
        await client.socket.close()
        client = await chat.visit(positions="true", after=heard[-1].position)
    await client.socket.close()


async def test_a_position_of_another_epoch_gets_one_reset_and_what_there_is(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.say("question")
    turn = await chat.turn()
    await turn.say("answer")
    await turn.complete()
    await client.hear_answer()
    again = await chat.visit(after="abcdef:3")
    assert (await again.hear()).kind == "reset"
    heard = await again.hear_answer()
    assert driver.seen(shown(heard)) == driver.seen(heard[-1].text) == "answer"
    await again.socket.close()
    await client.socket.close()


@pytest.mark.parametrize("query", [{"after": "yesterday"}, {"after": ""}, {"after": "e0:1:2"}, {"positions": "maybe"}])
async def test_a_malformed_wish_is_explained_and_refused(system: System, driver: Driver, query: dict[str, str]) -> None:
    chat = await Chat.make(system, driver)
    client = await visit(driver, system.urls[0], chat.place, **query)  # type: ignore[arg-type]
    frames, code, _ = await client.socket.closing()
    assert [driver.hear(frame).kind for frame in frames] == ["error"]
    assert code == 1008


async def test_a_stopped_answer_keeps_what_was_said_and_its_last_frame_comes(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.say("question")
    turn = await chat.turn()
    await turn.say("so far")
    await client.hear_text("so far")
    assert (await driver.stop(system.urls[1], system.key, chat.place)).status == 200
    heard = await client.hear_answer()
    assert driver.seen(heard[-1].text) == "so far"
    assert heard[-1].kind == "end"
    assert (await driver.stop(system.urls[0], system.key, chat.place)).status == 200
    await client.say("another question")
    await (await chat.turn()).complete()
    assert (await client.hear_answer())[-1].kind == "end"
    await client.socket.close()


async def test_a_failed_answer_says_so_in_one_frame(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.say("question")
    turn = await chat.turn()
    await turn.say("half")
    await turn.fail("Please ask again.")
    heard = await client.hear_answer()
    assert (heard[-1].kind, heard[-1].text) == ("error", "Please ask again.")
    await client.say("question")
    turn = await chat.turn()
    await turn.say("whole")
    await turn.complete()
    assert driver.seen((await client.hear_answer())[-1].text) == "whole"
    await client.socket.close()


async def test_a_restarted_answer_is_right_in_the_end(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.say("question")
    turn = await chat.turn()
    await turn.say("wrong")
    await turn.restart()
    await turn.say("right")
    await turn.complete()
    assert driver.seen((await client.hear_answer())[-1].text) == "right"
    await client.socket.close()


async def test_a_bad_credential_is_explained_and_refused(system: System, driver: Driver) -> None:
    client = await visit(driver, system.urls[0], driver.stranger())
    frames, code, _ = await client.socket.closing()
    assert [driver.hear(frame).kind for frame in frames] == ["error"]
    assert code == 1008


async def test_what_can_not_be_taken_gets_an_error_frame_and_the_connection_stays(
    system: System, driver: Driver
) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    for junk in driver.junk():
        await client.socket.send(junk)
        assert (await client.hear()).kind == "error"
    await client.say("question")
    turn = await chat.turn()
    await turn.say("answer")
    await turn.complete()
    assert (await client.hear_answer())[-1].kind == "end"
    await client.socket.close()


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024], ids=["over ours", "over the server's"])
async def test_a_message_too_large_is_explained_and_closes_with_1009(system: System, driver: Driver, size: int) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.socket.send(driver.message("x" * size))
    frames, code, _ = await client.socket.closing()
    kinds = [driver.hear(frame).kind for frame in frames]
    assert [kind for kind in kinds if kind != "greeting"] == ["error"]
    assert code == 1009
    assert await system.worker.history(chat.id) == []


async def test_a_message_just_small_enough_is_taken(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    longest = driver.longest if isinstance(driver, SpeaksByHttp) else 64 * 1024 - len(driver.message(""))
    text = "y" * longest
    await client.say(text)
    await (await chat.turn()).complete()
    await client.hear_answer()
    assert (await system.worker.history(chat.id))[0] == text
    await client.socket.close()


async def test_a_keyed_message_sent_again_is_in_the_history_once(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client_id = str(uuid.uuid4())
    for replica in (0, 1):
        client = await chat.visit(replica=replica, client_id=client_id)
        await client.say("once")
        if replica == 0:
            turn = await chat.turn()
        await client.say("only")
        if replica == 0:
            await turn.complete()
            await client.hear_answer()
            await (await chat.turn()).complete()
            await client.hear_answer()
        await client.socket.close()
    client = await chat.visit(client_id=str(uuid.uuid4()))
    await client.say("new")
    await (await chat.turn()).complete()
    await client.hear_answer()
    history = await system.worker.history(chat.id)
    assert [text for text in history if text] == ["once", "only", "new"]
    await client.socket.close()


async def test_two_messages_at_once_are_answered_one_after_the_other(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.say("first")
    await client.say("second")
    for answer in ("one", "two"):
        turn = await chat.turn()
        await turn.say(answer)
        await turn.complete()
        assert driver.seen((await client.hear_answer())[-1].text) == answer
    history = await system.worker.history(chat.id)
    assert [text for text in history if text in ("first", "second")] == ["first", "second"]
    assert [text for text in history if text in ("one", "two")] == ["one", "two"]
    await client.socket.close()


async def test_too_many_waiting_questions_are_refused_and_the_connection_stays(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    for number in range(30):
        await client.say(f"question {number}")
    assert (await client.hear()).kind == "error"
    await client.socket.close()


async def test_an_ended_chat_closes_every_clients_socket_with_1000(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    clients = [await present(await chat.visit(replica=replica)) for replica in (0, 1)]
    assert (await driver.end(system.stack, chat.place)).status == 200
    for client in clients:
        frames, code, _ = await client.socket.closing()
        assert (frames, code) == ([], 1000)
    assert (await driver.end(system.stack, chat.place)).status == 404


async def test_a_slow_reader_gets_fewer_larger_frames_and_all_of_the_text(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    slow, fast = await present(await chat.visit(small=True)), await chat.visit()
    await fast.say("question")
    turn = await chat.turn()
    for _ in range(300):
        await turn.say("z" * 1000 + " ")
    await fast.hear_text(turn.text.strip())
    await turn.complete()
    await fast.hear_answer()
    heard = await slow.hear_answer()
    assert shown(heard) == heard[-1].text
    assert driver.seen(heard[-1].text).split() == turn.text.split()
    assert len(heard) < 300
    for client in (slow, fast):
        await client.socket.close()


async def test_a_reader_too_slow_is_closed_with_1013_and_resumes_where_it_was(
    system: System, streaming: Driver
) -> None:
    driver = streaming
    chat = await Chat.make(system, driver)
    slow, fast = await present(await chat.visit(small=True, positions="true")), await chat.visit()
    await fast.say("question")
    turn = await chat.turn()
    for _ in range(900):
        await turn.say("z" * 1000 + " ")
    await turn.complete()
    await fast.hear_answer()
    frames, code, _ = await slow.socket.closing()
    assert code == 1013
    heard = [driver.hear(frame) for frame in frames]
    again = await chat.visit(after=heard[-1].position)
    rest = await again.hear_answer()
    assert shown(heard + rest) == rest[-1].text
    for client in (fast, again):
        await client.socket.close()


async def test_no_log_line_holds_what_a_query_string_held(system: System, driver: Driver) -> None:
    secret = f"secret-{uuid.uuid4()}"
    chat = await Chat.make(system, driver)
    # Not `token` or `ticket`, which may be what lets the client in.
    client = await chat.visit(key=secret, client_id=secret)
    await client.say("question")
    await (await chat.turn()).complete()
    await client.hear_answer()
    await client.socket.close()
    await http("GET", f"{system.urls[0]}/health?token={secret}", key=secret)
    assert system.lines
    assert not [line for line in system.lines if secret in line.raw or system.key in line.raw]


async def test_readers_stay_connected_while_session_is_gone_and_then_catch_up(driver: Driver) -> None:
    async with (
        Stack(sessions=2, workers=0, simulator=False, environment=NOBODY) as stack,
        Worker(stack.session_target, stack.secrets.internal_token) as worker,
    ):
        await stack.wait_serving()
        place = await driver.enter(stack)
        client = await visit(driver, stack.gateway_urls[0], place)
        await client.say("question")
        turn = await worker.claim(await driver.chat_id(worker, place))
        await turn.say("one ")
        heard = await client.hear_text("one")
        for session in stack.sessions:
            await session.kill()
        for session in stack.sessions:
            await session.start()
        chat_id = await driver.chat_id(worker, place)
        assert (await driver.stop(stack.gateway_urls[0], stack.secrets.api_key, place)).status == 200
        heard += await client.hear_answer()
        assert shown(heard) == heard[-1].text
        assert driver.seen(heard[-1].text).strip() == "one"
        await client.say("again")
        await (await worker.claim(chat_id)).complete()
        assert (await client.hear_answer())[-1].kind == "end"
        await client.socket.close()


async def test_a_restarted_redis_resets_who_knows_positions_and_every_reader_ends_up_right(driver: Driver) -> None:
    async with (
        Stack(workers=0, simulator=False, environment=NOBODY, appendfsync="always") as stack,
        Worker(stack.session_target, stack.secrets.internal_token) as worker,
    ):
        await stack.wait_serving()
        url, key = stack.gateway_urls[0], stack.secrets.api_key
        place = await driver.enter(stack)
        strict = await present(await visit(driver, url, place))
        knowing = await present(await visit(driver, url, place, positions="true"))
        await strict.say("question")
        turn = await worker.claim(await driver.chat_id(worker, place))
        await turn.say("one ", "two ")
        heard = await strict.hear_text("one two")
        await knowing.hear_text("one two")
        assert stack.redis is not None
        await stack.redis.kill()
        await stack.redis.start()
        assert (await driver.stop(url, key, place)).status == 200
        heard += await strict.hear_answer()
        assert shown(heard) == heard[-1].text
        assert driver.seen(heard[-1].text).split() == ["one", "two"]
        anew = await knowing.hear_answer()
        assert [one.kind for one in anew].count("reset") == 1
        after_reset = anew[[one.kind for one in anew].index("reset") + 1 :]
        assert shown(after_reset) == after_reset[-1].text == heard[-1].text
        for client in (strict, knowing):
            await client.socket.close()


async def test_while_session_is_away_new_clients_are_told_to_come_later_and_too_many_as_well(driver: Driver) -> None:
    environment = {**NOBODY, "MAX_CONNECTIONS": "1"}
    async with Stack(workers=0, simulator=False, environment=environment) as stack:
        await stack.wait_serving()
        url = stack.gateway_urls[0]
        place = await driver.enter(stack)
        first = await present(await visit(driver, url, place))
        second = await visit(driver, url, place)
        frames, code, _ = await second.socket.closing()
        assert ([driver.hear(frame).kind for frame in frames], code) == (["error"], 1013)
        await first.socket.close()
        await stack.sessions[0].kill()
        third = await visit(driver, url, place)
        frames, code, _ = await third.socket.closing()
        assert ([driver.hear(frame).kind for frame in frames], code) == (["error"], 1013)


async def test_a_text_that_is_no_text_closes_with_1007(system: System, driver: Driver) -> None:
    chat = await Chat.make(system, driver)
    client = await chat.visit()
    await client.socket.connection.send(b"\xff\xfe", text=True)
    frames, code, _ = await client.socket.closing()
    assert code == 1007
    # A welcome may have been on its way.
    assert {driver.hear(frame).kind for frame in frames} <= {"greeting"}


async def test_a_drain_closes_sockets_with_1001_over_time_and_exits_with_0(driver: Driver) -> None:
    environment = {**NOBODY, "DRAIN_SECONDS": "1"}
    async with (
        Stack(workers=0, gateways=2, simulator=False, environment=environment) as stack,
        Worker(stack.session_target, stack.secrets.internal_token) as worker,
    ):
        await stack.wait_serving()
        url = stack.gateway_urls[0]
        place = await driver.enter(stack)
        clients = [await present(await visit(driver, url, place, positions="true")) for _ in range(20)]
        await clients[0].say("question")
        turn = await worker.claim(await driver.chat_id(worker, place))
        await turn.say("one ")
        heard = [await client.hear_text("one") for client in clients]
        stack.gateways[0].send_signal(signal.SIGTERM)
        endings = [await client.socket.closing() for client in clients]
        assert {code for _, code, _ in endings} == {1001}
        assert await stack.gateways[0].wait_ended() == 0
        # The conversation goes on at another replica.
        resume = {"after": heard[0][-1].position} if heard[0] else {}
        again = await visit(driver, stack.gateway_urls[1], place, **resume)  # type: ignore[arg-type]
        await turn.say("two")
        await turn.complete()
        rest = await again.hear_answer()
        assert shown(heard[0] + rest) == rest[-1].text
        await again.socket.close()
