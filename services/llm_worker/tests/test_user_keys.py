"""Answers made with users' own keys: the real session service keeps them, and the simulator tells whose was sent."""

import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import pytest_asyncio
from chat.errors import ErrorCode
from chat.events import ResponseFailed
from launcher.log_line import LogLine
from launcher.stack import Stack
from llm_worker.own_target import OwnKeys
from runtime.rpc_channel import open_channel, service_metadata
from simulator.process import Simulator
from simulator.record import fingerprint
from switchboard.llm.v1 import llm_pb2
from switchboard.session.v1 import user_pb2, user_pb2_grpc

from .chats import Chat, open_chats
from .harness import NOWHERE, Caller, Heard, Refused, directive, open_worker
from .test_fitting import long

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "sk-own-canary-0123456789"
MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-4o"}
PLATFORM_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GROK_API_KEY")
FINE = {"text": "fine"}
QUICK = {"SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.3", "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "0.3"}
DOWN: tuple[dict[str, object], ...] = (
    {"status": 500},
    {"status": 529},
    {"reset_before_headers": True},
    {"headers_ms": 60_000},
    {"cut_after": 0},
)

wire = pytest.mark.parametrize("provider", MODELS)
"""Both wire formats."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stack]:
    async with Stack(workers=0, gateways=0) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def stack(shared: Stack) -> Stack:
    await simulator_of(shared).areset()
    return shared


def simulator_of(stack: Stack) -> Simulator:
    assert stack.simulator is not None
    return Simulator(stack.simulator_url, stack.simulator.pid)


def sent(stack: Stack, provider: str | None = None) -> list[tuple[str, str]]:
    """Which provider was asked by which key."""
    names = {fingerprint(OWN): "own", fingerprint("sk-other-key"): "other"}
    names |= {fingerprint(f"key-of-{name}"): "platform" for name in (*MODELS, "grok")}
    requests = simulator_of(stack).requests(provider)
    return [(one.provider, names[one.key_fingerprint or ""]) for one in requests]


class Users:
    """The settings page, in a few lines."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub = stub
        self._metadata = service_metadata(token)

    async def put(self, user_id: str, provider: str, key: str = OWN) -> None:
        request = user_pb2.PutProviderKeyRequest(user_id=user_id, provider=provider, key=key)
        await self._stub.PutProviderKey(request, metadata=self._metadata, timeout=10, wait_for_ready=True)

    async def delete(self, user_id: str, provider: str) -> None:
        request = user_pb2.DeleteProviderKeyRequest(user_id=user_id, provider=provider)
        await self._stub.DeleteProviderKey(request, metadata=self._metadata, timeout=10, wait_for_ready=True)


@asynccontextmanager
async def open_users(stack: Stack) -> AsyncIterator[Users]:
    async with open_channel(stack.session_target) as channel:
        yield Users(user_pb2_grpc.UserServiceStub(channel), stack.secrets.internal_token)


@asynccontextmanager
async def open_both(stack: Stack, **overrides: str) -> AsyncIterator[tuple[Caller, Users]]:
    """A worker of the stack's session service, and where its users leave their keys."""
    environment = {
        "SESSION_ADDR": stack.session_target,
        "INTERNAL_TOKEN": stack.secrets.internal_token,
        "WORKER_TOKEN": stack.secrets.worker_token,
        **overrides,
    }
    async with open_worker(simulator_of(stack), **environment) as caller, open_users(stack) as users:
        caller.metadata = service_metadata(stack.secrets.internal_token)
        yield caller, users


async def ask(caller: Caller, user_id: str, plan: object = None, *, heard: Heard | None = None, **fields: Any) -> Heard:
    """Generate on behalf of a user whose own keys may be used."""
    service = caller.metadata
    caller.metadata = (*service, ("x-switchboard-user", quote(user_id)))
    try:
        return await caller.generate(plan, heard=heard, own_keys=True, **fields)
    finally:
        caller.metadata = service


async def refusal(caller: Caller, user_id: str, plan: object = None, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await ask(caller, user_id, plan, **fields)
    return caught.value


@pytest.fixture
def user() -> str:
    """Somebody new, whose id is not ASCII."""
    return f"zoë-{uuid.uuid4()}"


@wire
async def test_the_users_own_key_makes_the_answer(stack: Stack, user: str, provider: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, provider)
        heard = await ask(caller, user, FINE, model=MODELS[provider])
    assert (heard.text, heard.provider) == ("fine", provider)
    assert [(one.own_key, one.billed) for one in heard.answer.attempts] == [(True, True)]
    assert sent(stack) == [(provider, "own")]


async def test_the_provider_of_the_users_key_is_first_whatever_the_route_says(stack: Stack, user: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, "grok")
        heard = await ask(caller, user, {"grok": {"status": 503}, "*": FINE}, model="gpt-4o")
        assert heard.tried == ["grok", "grok", "openai"]
    assert sent(stack) == [("grok", "own"), ("grok", "own"), ("openai", "platform")]


async def test_a_key_counts_for_its_user_alone_and_only_where_it_is_asked_for(stack: Stack, user: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, "openai")
        await ask(caller, "somebody-else", FINE, model="gpt-4o")
        await ask(caller, "", FINE, model="gpt-4o")
        await caller.generate(FINE, model="gpt-4o")
    assert sent(stack) == [("openai", "platform")] * 3


async def test_without_the_workers_token_users_keys_are_not_used(stack: Stack, user: str) -> None:
    async with open_both(stack, WORKER_TOKEN="") as (caller, users):
        await users.put(user, "openai")
        await ask(caller, user, FINE, model="gpt-4o")
    assert sent(stack) == [("openai", "platform")]


async def test_a_key_that_was_replaced_or_deleted_counts_no_longer(stack: Stack, user: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, "openai")
        await ask(caller, user, FINE, model="gpt-4o")
        await users.put(user, "openai", "sk-other-key")
        await ask(caller, user, FINE, model="gpt-4o")
        await users.delete(user, "openai")
        await ask(caller, user, FINE, model="gpt-4o")
    assert sent(stack) == [("openai", "own"), ("openai", "other"), ("openai", "platform")]


@wire
@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 403}, {"code": "credit_balance_exhausted"}], ids=str)
async def test_a_key_that_is_refused_or_spent_is_said_and_ours_is_never_used(
    stack: Stack, user: str, provider: str, fault: dict[str, object]
) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, provider)
        refused = await refusal(caller, user, {provider: fault, "*": FINE}, model=MODELS[provider])
    assert (refused.status, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_REFUSED")
    assert f"own {provider} key" in refused.message
    assert "settings" in refused.message
    assert sent(stack) == [(provider, "own")]


@wire
@pytest.mark.parametrize("key", ["sk-invalid-key", "sk-spent-key"])
async def test_a_bad_key_is_refused_by_the_providers_own_door(stack: Stack, user: str, provider: str, key: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, provider, key)
        refused = await refusal(caller, user, FINE, model=MODELS[provider])
    assert refused.reason == "API_KEY_REFUSED"
    assert key not in refused.message
    assert sent(stack) == [], "the simulator records what got past its door"


@wire
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 429, "retry_after": 7}, "RATE_LIMITED"),
        ({"status": 404}, "PROVIDER_REFUSED"),
        ({"status": 422}, "PROVIDER_REFUSED"),
        ({"code": "content_policy"}, "PROVIDER_REFUSED"),
    ],
    ids=str,
)
async def test_what_does_not_mean_that_the_provider_is_down_never_costs_our_money(
    stack: Stack, user: str, provider: str, fault: dict[str, object], reason: str
) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, provider)
        refused = await refusal(caller, user, {provider: fault, "*": FINE}, model=MODELS[provider])
        status = await caller.status(provider, MODELS[provider])
    assert (refused.reason, refused.retry_after_s) == (reason, fault.get("retry_after"))
    assert sent(stack) == [(provider, "own")]
    assert not status.HasField("cooling_down_until")


@wire
@pytest.mark.parametrize("fault", DOWN, ids=str)
async def test_the_platforms_route_follows_when_the_provider_of_the_users_key_is_down(
    stack: Stack, user: str, provider: str, fault: dict[str, object]
) -> None:
    async with open_both(stack, **QUICK) as (caller, users):
        await users.put(user, provider)
        heard = await ask(caller, user, {provider: fault, "*": FINE}, model=MODELS[provider])
        # What was down for the user's key is asked last with ours, and so not at all here.
        *own, last = heard.tried
        assert set(own) == {provider} != {last}
        assert [one.own_key for one in heard.answer.attempts] == [True] * len(own) + [False]
    assert heard.text == "fine"


@wire
async def test_the_platforms_route_does_not_follow_where_the_operator_forbids_it(
    stack: Stack, user: str, provider: str
) -> None:
    async with open_both(stack, PLATFORM_FALLBACK="false") as (caller, users):
        await users.put(user, provider)
        refused = await refusal(caller, user, {provider: {"status": 503}, "*": FINE}, model=MODELS[provider])
        assert (refused.status, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
        assert refused.retry_after_s is not None
        assert sent(stack) == [(provider, "own")] * 2
        # Who has no key of their own is served by the platform all the same.
        assert (await ask(caller, "keyless", FINE)).text == "fine"


async def test_another_key_of_the_users_is_tried_before_the_platforms(stack: Stack, user: str) -> None:
    async with open_both(stack) as (caller, users):
        await users.put(user, "openai")
        await users.put(user, "anthropic", "sk-other-key")
        heard = await ask(caller, user, {"openai": {"status": 503}, "*": FINE}, model="gpt-4o")
        assert sent(stack) == [("openai", "own"), ("openai", "own"), ("anthropic", "other")]
        assert [one.own_key for one in heard.answer.attempts] == [True, True, True]
        refused = await refusal(caller, user, {"openai": {"status": 401}, "*": FINE}, model="gpt-4o")
        assert refused.reason == "API_KEY_REFUSED"
    assert len(sent(stack)) == 4


async def test_a_user_with_a_key_is_served_where_the_platform_has_none_and_others_are_told(
    stack: Stack, user: str
) -> None:
    async with open_both(stack, **dict.fromkeys(PLATFORM_KEYS, "")) as (caller, users):
        await users.put(user, "openai")
        assert (await ask(caller, user, FINE)).provider == "openai"
        refused = await refusal(caller, "brings-none", FINE)
        assert (refused.status, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_API_KEY")
        assert sent(stack) == [("openai", "own")]


@wire
async def test_users_keys_touch_no_breaker_and_none_holds_them_back(stack: Stack, user: str, provider: str) -> None:
    limits = {"SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "2", "PLATFORM_FALLBACK": "false"}
    async with open_both(stack, **limits) as (caller, users):
        await users.put(user, provider)
        for _ in range(3):
            await refusal(caller, user, {"status": 503}, model=MODELS[provider])
        untouched = await caller.status(provider, MODELS[provider])
        assert (untouched.failures, untouched.breaker) == (0, llm_pb2.BREAKER_STATE_CLOSED)
        for _ in range(2):
            await caller.generate({provider: {"status": 503}, "*": FINE}, model=MODELS[provider])
        opened = await caller.status(provider, MODELS[provider])
        assert opened.breaker == llm_pb2.BREAKER_STATE_OPEN
        # Nor does a success with a user's key close it.
        assert (await ask(caller, user, FINE, model=MODELS[provider])).provider == provider
        assert (await caller.status(provider, MODELS[provider])).breaker == llm_pb2.BREAKER_STATE_OPEN


@wire
async def test_a_short_retry_after_of_the_users_key_is_waited_out(stack: Stack, user: str, provider: str) -> None:
    await simulator_of(stack).aset_plans(provider, {"status": 429, "retry_after": 0.1}, then=FINE)
    async with open_both(stack) as (caller, users):
        await users.put(user, provider)
        assert (await ask(caller, user, model=MODELS[provider])).text == "fine"
    assert sent(stack) == [(provider, "own")] * 2


@wire
async def test_an_answer_that_breaks_off_is_gone_on_with_by_the_platforms_route(
    stack: Stack, user: str, provider: str
) -> None:
    text = "One two three four five."
    await simulator_of(stack).aset_plans(provider, {"text": text, "cut_after": 3})
    for other in {*MODELS, "grok"} - {provider}:
        await simulator_of(stack).aset_plans(other, {"text": text, "goes_on": 6})
    async with open_both(stack) as (caller, users):
        await users.put(user, provider)
        heard = await ask(caller, user, model=MODELS[provider])
        assert (await caller.status(provider, MODELS[provider])).failures == 0
    assert heard.text == text
    assert [one.own_key for one in heard.answer.attempts] == [True, False]


@wire
async def test_where_the_operator_forbids_the_platform_the_users_key_goes_on(
    stack: Stack, user: str, provider: str
) -> None:
    text = "One two three four five."
    await simulator_of(stack).aset_plans(provider, {"text": text, "cut_after": 3}, {"text": text, "goes_on": 0})
    async with open_both(stack, PLATFORM_FALLBACK="false") as (caller, users):
        await users.put(user, provider)
        assert (await ask(caller, user, model=MODELS[provider])).text == text
    assert sent(stack) == [(provider, "own")] * 2


@wire
async def test_a_key_that_is_refused_in_the_middle_is_said_and_ours_is_never_used(
    stack: Stack, user: str, provider: str
) -> None:
    plans = {"text": "One two three four five.", "cut_after": 3}, {"status": 401}
    await simulator_of(stack).aset_plans(provider, *plans)
    heard = Heard()
    async with open_both(stack, PLATFORM_FALLBACK="false") as (caller, users):
        await users.put(user, provider)
        refused = await refusal(caller, user, model=MODELS[provider], heard=heard)
    assert (heard.text, refused.reason) == ("One two three ", "API_KEY_REFUSED")
    assert sent(stack) == [(provider, "own")] * 2


@pytest.mark.parametrize("trouble", [{"SESSION_ADDR": NOWHERE}, {"WORKER_TOKEN": "another"}], ids=str)
async def test_our_money_is_not_spent_because_the_keys_cannot_be_looked_up(
    stack: Stack, user: str, trouble: dict[str, str]
) -> None:
    async with open_both(stack, **trouble) as (caller, users):
        await users.put(user, "openai")
        refused = await refusal(caller, user, FINE)
    assert (refused.status, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert sent(stack) == []


async def test_our_money_is_not_spent_because_a_key_cannot_be_read_any_more(stack: Stack, user: str) -> None:
    [session] = stack.sessions
    async with open_both(stack) as (caller, users):
        await users.put(user, "openai")
        await session.restart({"MASTER_KEYS": "another:" + b64encode(bytes(32)).decode()})
        try:
            refused = await refusal(caller, user, FINE)
        finally:
            await session.restart({"MASTER_KEYS": stack.secrets.values["MASTER_KEYS"]})
    assert refused.reason == "API_KEY_REFUSED"
    assert "openai" in refused.message
    assert sent(stack) == []


@asynccontextmanager
async def open_chat(stack: Stack, dialect: str) -> AsyncIterator[Chat]:
    async with open_chats(stack.session_target, stack.secrets.internal_token, dialect=dialect) as [chat]:
        yield chat


@pytest.mark.parametrize(("dialect", "whose"), [("arketic", ("openai", "own")), ("faye", ("anthropic", "platform"))])
async def test_a_turn_is_answered_by_its_senders_key_where_the_persona_says_so(
    stack: Stack, dialect: str, whose: tuple[str, str]
) -> None:
    async with open_both(stack) as (_, users), open_chat(stack, dialect) as chat:
        await users.put("ann", "openai")
        await users.delete("ann", "anthropic")
        await chat.say(directive(FINE))
        message = await chat.answer()
    assert message.content == "fine"
    assert message.answer is not None
    assert message.answer.attempts[0].own_key is (whose[1] == "own")
    assert sent(stack) == [whose]


async def test_another_answer_is_made_with_the_key_of_who_asked_for_it(stack: Stack, user: str) -> None:
    async with open_both(stack) as (_, users), open_chat(stack, "arketic") as chat:
        await users.put("ann", "openai")
        await users.delete("ann", "anthropic")
        begun = await chat.say(directive(FINE))
        await chat.answer()
        bob = str(uuid.uuid4())
        await chat.ask_again(begun.message.id, bob)
        again = await chat.answer(2)
    assert again.answer is not None
    assert [attempt.own_key for attempt in again.answer.attempts] == [False]
    assert sent(stack) == [("openai", "own"), ("openai", "platform")]


async def test_a_turn_whose_senders_key_is_refused_says_so(stack: Stack) -> None:
    async with open_both(stack) as (_, users), open_chat(stack, "arketic") as chat:
        await users.put("ann", "openai", "sk-invalid-key")
        await users.delete("ann", "anthropic")
        await chat.say(directive(FINE))
        failed = await chat.until(ResponseFailed)
    assert (failed.answer.failure.code, failed.answer.failure.retryable) == (ErrorCode.API_KEY_REFUSED, False)
    assert sent(stack) == []


async def test_a_turn_fails_for_a_while_when_the_keys_cannot_be_looked_up(stack: Stack) -> None:
    async with open_both(stack, WORKER_TOKEN="another"), open_chat(stack, "arketic") as chat:
        await chat.say(directive(FINE))
        failed = await chat.until(ResponseFailed)
    assert (failed.answer.failure.code, failed.answer.failure.retryable) == (ErrorCode.UNAVAILABLE, True)
    assert sent(stack) == []


async def test_a_key_stands_in_no_line_that_a_worker_writes_and_in_no_error() -> None:
    lines: list[LogLine] = []
    faults = [*DOWN, {"status": 401}, {"status": 429}, {"deltas": 9, "cut_after": 3}, {"code": "content_policy"}, FINE]
    environment = {**QUICK, "LOG_LEVEL": "debug"}
    async with Stack(gateways=0, environment=environment, listener=lines.append) as stack, open_users(stack) as users:
        for provider in (*MODELS, "grok"):
            await users.put("ann", provider)
        async with open_channel(stack.worker_addresses[0]) as channel:
            caller = Caller(channel)
            caller.metadata = service_metadata(stack.secrets.internal_token)
            told = [
                str(await refusal(caller, "ann", {"sticky": True, "anthropic": fault, "*": {"status": 503}}))
                for fault in faults[:-1]
            ]
            await ask(caller, "ann", FINE)
            # The provider's own complaint names the key, as OpenAI's does.
            plan = {"status": 401, "message": f"Incorrect API key provided: {OWN}"}
            told += [str(await refusal(caller, "ann", plan, model=model)) for model in MODELS.values()]
        async with open_chat(stack, "arketic") as chat:
            await chat.say(directive(plan))
            told.append(str(await chat.until(ResponseFailed)))
        await stack.workers[0].stop()
    worker = [line.raw for line in lines if line.service == "worker"]
    assert sum("attempt failed" in line for line in worker) > len(faults)
    assert [line.raw for line in lines if OWN in line.raw or stack.secrets.worker_token in line.raw] == []
    assert [text for text in told if OWN in text] == []


async def test_what_holds_a_key_does_not_show_it() -> None:
    assert OWN not in repr(OwnKeys({"openai": OWN}))


async def test_a_question_that_seems_too_long_for_the_users_own_model_is_its_providers_to_refuse(
    stack: Stack, user: str
) -> None:
    narrow = {
        "SWITCHBOARD__MODELS__TINY__PROVIDER": "openai",
        "SWITCHBOARD__MODELS__TINY__CONTEXT_TOKENS": "1000",
        "SWITCHBOARD__ROUTES__GROWING": '["tiny", "claude-sonnet-4-5"]',
    }
    async with open_both(stack, **narrow) as (caller, users):
        await users.put(user, "openai")
        heard = await ask(caller, user, model="growing", messages=long(5000))
        assert heard.tried == ["openai"]
        assert heard.answer.usage.cost_nano_usd == 0
        simulator_of(stack).set_plans("openai", then={"code": "context_length_exceeded"})
        refused = await refusal(caller, user, model="growing", messages=long(5000))
        assert refused.reason == "CONTEXT_TOO_LONG"


async def test_answers_with_a_users_own_key_are_not_hedged(stack: Stack, user: str) -> None:
    hedged = {
        "SWITCHBOARD__HEDGING__ENABLED": "true",
        "SWITCHBOARD__HEDGING__MAX_SHARE": "1.0",
        "SWITCHBOARD__HEDGING__MIN_SAMPLES": "1",
    }
    async with open_both(stack, **hedged) as (caller, users):
        await users.put(user, "anthropic")
        await ask(caller, user)
        simulator_of(stack).set_plans("anthropic", then={"text": "late", "first_token_ms": 400})
        heard = await ask(caller, user)
        assert (heard.text, heard.tried) == ("late", ["anthropic"])
