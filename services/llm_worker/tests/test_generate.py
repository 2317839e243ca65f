"""Generate, over real gRPC: answers, fallback, breakers, refusals. Providers fail as the simulator is told."""

import asyncio
from contextlib import suppress

import grpc
import grpc.aio
import pytest
from llm_worker import attempt
from llm_worker.outcome import Outcome
from runtime.rpc_channel import service_metadata
from simulator.process import Simulator
from switchboard.chat.v1 import chat_pb2
from switchboard.llm.v1 import llm_pb2

from .harness import Caller, Heard, Refused, no_collections, no_question_is_left, open_worker, question, user

CLAUDE, GROK, GPT = ("anthropic", "claude-sonnet-4-5"), ("grok", "grok-4"), ("openai", "gpt-4o")
FINE = {"text": "fine"}
QUICK = {
    "SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.3",
    "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "0.3",
}


async def refusal(caller: Caller, plan: object = None, *, heard: Heard | None = None, **fields: object) -> Refused:
    with pytest.raises(Refused) as caught:
        await caller.generate(plan, heard=heard, **fields)
    return caught.value


def codes(error_or_answer: chat_pb2.Answer) -> list[str]:
    return [chat_pb2.ErrorCode.Name(one.failure.code) for one in error_or_answer.attempts]


async def test_an_answer_comes_whole_and_says_who_gave_it(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        heard = await caller.generate({"text": "Hello there!", "usage": {"input_tokens": 3, "output_tokens": 2}})
    answer = heard.answer
    assert heard.text == "Hello there!"
    assert (heard.provider, answer.provider, answer.model) == ("anthropic", *CLAUDE)
    assert answer.state == chat_pb2.ANSWER_STATE_COMPLETED
    assert answer.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 2)
    assert answer.HasField("duration")
    (attempt,) = answer.attempts
    assert attempt.billed
    assert attempt.HasField("time_to_first_token")
    assert not attempt.HasField("failure")


async def test_an_answer_that_does_not_end_is_ended(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "MAX_ANSWER_CHARS", 100)
    async with open_worker(sim) as caller:
        heard = await caller.generate({"deltas": 50, "delta_chars": 10, "stall_after": 20})
    assert 100 < len(heard.text) <= 200
    assert heard.answer.state == chat_pb2.ANSWER_STATE_COMPLETED
    assert heard.answer.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    assert heard.tried == ["anthropic"]


@pytest.mark.parametrize(
    ("model", "order"),
    [
        ("", ["anthropic", "grok", "openai"]),
        ("claude-opus-4-6", ["anthropic", "grok", "openai"]),
        ("gpt-4.1", ["openai", "anthropic", "grok"]),
        ("grok-3", ["grok", "anthropic", "openai"]),
    ],
)
async def test_targets_are_tried_in_the_order_of_the_models_route(sim: Simulator, model: str, order: list[str]) -> None:
    plan: dict[str, object] = {provider: {"status": 503} for provider in order[:-1]}
    async with open_worker(sim) as caller:
        heard = await caller.generate({**plan, order[-1]: FINE}, model=model)
    first, second, last = order
    assert heard.tried == [first, first, second, second, last]
    assert (heard.text, heard.provider) == ("fine", last)
    assert codes(heard.answer) == ["ERROR_CODE_PROVIDER_UNAVAILABLE"] * 4 + ["ERROR_CODE_UNSPECIFIED"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 401},
        {"status": 403},
        {"status": 404},
        {"code": "credit_balance_exhausted"},
        {"headers_ms": 60_000},
        {"first_token_ms": 60_000},
        {"stall_after": 0, "pings_while_stalled": True},
        {"cut_after": 0},
        {"reset_after": 0},
        {"error_after": 0},
        {"no_finish": True, "deltas": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize(("model", "target", "second"), [("claude", CLAUDE, "grok"), ("gpt", GPT, "anthropic")])
async def test_before_the_first_token_the_next_target_answers_instead(
    sim: Simulator, fault: dict[str, object], model: str, target: tuple[str, str], second: str
) -> None:
    first, _ = target
    async with open_worker(sim, **QUICK) as caller:
        heard = await caller.generate({first: fault, "*": FINE}, model=model)
        assert (heard.text, heard.tried) == ("fine", [first, second])
        assert not heard.answer.attempts[0].HasField("time_to_first_token")
        not_unwell = {"status": 429}, {"status": 401}, {"status": 403}, {"status": 404}
        counts = fault not in not_unwell and "code" not in fault
        assert (await caller.status(*target)).failures == counts
    assert len(sim.requests(first)) == 1


@pytest.mark.parametrize(
    ("code", "model", "reason", "status"),
    [
        ("content_policy", "claude", "PROVIDER_REFUSED", grpc.StatusCode.FAILED_PRECONDITION),
        ("content_policy", "gpt", "PROVIDER_REFUSED", grpc.StatusCode.FAILED_PRECONDITION),
        ("context_length_exceeded", "grok", "CONTEXT_TOO_LONG", grpc.StatusCode.OUT_OF_RANGE),
    ],
)
async def test_a_refusal_goes_to_the_caller_and_is_not_routed_around(
    sim: Simulator, code: str, model: str, reason: str, status: grpc.StatusCode
) -> None:
    async with open_worker(sim) as caller:
        refused = await refusal(caller, {"code": code}, model=model)
        assert (refused.reason, refused.status) == (reason, status)
        assert all(one.failures == 0 for one in (await caller.ask("GetProviderStatus", STATUS)).targets)
    assert len(sim.requests()) == 1


async def test_an_answer_that_the_content_filter_ended_says_so(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        heard = await caller.generate({"text": "I can't", "finish_reason": "content_filter"})
    assert heard.answer.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


async def test_an_answer_without_a_word_is_whole(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        heard = await caller.generate({"deltas": 0})
    assert (heard.text, heard.provider) == ("", "anthropic")
    assert heard.answer.state == chat_pb2.ANSWER_STATE_COMPLETED


async def test_a_slow_answer_whose_tokens_keep_coming_is_not_cut(sim: Simulator) -> None:
    async with open_worker(sim, **QUICK) as caller:
        heard = await caller.generate({"deltas": 6, "interval_ms": 100})
    assert heard.answer.usage.output_tokens == 6


async def test_nobody_left_is_said_at_once_with_when_to_try_again(sim: Simulator) -> None:
    once = {"SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "1"}
    async with open_worker(sim, **once) as caller:
        first = await refusal(caller, {"status": 503})
        assert (first.status, first.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
        assert len(sim.requests()) == 3, "an open breaker let a retry through"
        again = await refusal(caller, FINE)
        assert again.reason == "PROVIDER_UNAVAILABLE"
        assert again.retry_after_s is not None
        assert 20 < again.retry_after_s <= 25
    assert len(sim.requests()) == 3, "an open breaker let a call through"


async def test_five_failures_open_a_breaker_and_one_probe_closes_it(sim: Simulator) -> None:
    soon = {"SWITCHBOARD__BREAKER__RESET_TIMEOUT_S": "0.5", "SWITCHBOARD__RETRIES__MAX_ATTEMPTS_PER_TARGET": "1"}
    async with open_worker(sim, **soon) as caller:
        for failures in range(5):
            assert (await caller.status(*CLAUDE)).failures == failures
            await caller.generate({"anthropic": {"status": 500}, "*": FINE})
        status = await caller.status(*CLAUDE)
        assert (status.breaker, status.failures) == (llm_pb2.BREAKER_STATE_OPEN, 5)
        assert status.HasField("last_failure_at")
        assert (await caller.generate(FINE)).tried == ["grok"]
        async with asyncio.timeout(10):
            while (await caller.status(*CLAUDE)).breaker != llm_pb2.BREAKER_STATE_HALF_OPEN:
                pass
        sim.clear_requests()
        # The probe is under way while the others ask.
        probe = asyncio.create_task(caller.generate({"deltas": 40, "interval_ms": 20}))
        await sim.await_request("anthropic", outcome="open", least_deltas=1)
        others = await asyncio.gather(*(caller.generate(FINE) for _ in range(20)))
        assert {heard.provider for heard in others} == {"grok"}
        assert (await probe).provider == "anthropic"
        assert len(sim.requests("anthropic")) == 1
        status = await caller.status(*CLAUDE)
        assert (status.breaker, status.failures) == (llm_pb2.BREAKER_STATE_CLOSED, 0)


async def test_a_429_makes_the_target_rest_as_long_as_it_asks_and_counts_nothing(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        for _ in range(3):
            heard = await caller.generate({"anthropic": {"status": 429, "retry_after": 60}, "*": FINE})
            assert heard.provider == "grok"
        status = await caller.status(*CLAUDE)
        assert (status.breaker, status.failures) == (llm_pb2.BREAKER_STATE_CLOSED, 0)
        assert status.HasField("cooling_down_until")
        assert not (await caller.status(*GROK)).HasField("cooling_down_until")
    assert len(sim.requests("anthropic")) == 1


async def test_a_429_of_every_target_says_when_the_first_may_be_asked_again(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        plans = {provider: {"status": 429, "retry_after": after} for provider, after in AFTER.items()}
        refused = await refusal(caller, plans)
        assert refused.reason == "PROVIDER_UNAVAILABLE"
        assert refused.retry_after_s is not None
        assert 38 < refused.retry_after_s <= 40


AFTER = {"anthropic": 50, "grok": 40, "openai": 60}


async def test_a_target_that_refuses_our_key_is_left_alone_for_a_while(sim: Simulator) -> None:
    async with open_worker(sim, ANTHROPIC_API_KEY="invalid") as caller:
        assert (await caller.generate(FINE)).tried == ["anthropic", "grok"]
        assert (await caller.generate(FINE)).tried == ["grok"]


@pytest.mark.parametrize(("model", "spent"), [("claude", CLAUDE), ("gpt", GPT)])
async def test_a_spent_balance_leads_to_the_next_target_and_is_loud_and_not_asked_again_at_once(
    sim: Simulator, caplog: pytest.LogCaptureFixture, model: str, spent: tuple[str, str]
) -> None:
    async with open_worker(sim) as caller:
        plan = {spent[0]: {"code": "credit_balance_exhausted"}, "*": FINE}
        first = await caller.generate(plan, model=model)
        again = await caller.generate(plan, model=model)
        status = await caller.status(*spent)
    assert (first.text, first.tried[0], len(first.tried)) == ("fine", spent[0], 2)
    assert spent[0] not in again.tried
    assert (status.failures, status.HasField("cooling_down_until")) == (0, True)
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(told)["outcome"] == "key_refused"


async def test_cancelling_the_call_ends_the_providers_and_says_nothing_to_the_breaker(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        for _ in range(6):
            call = caller.call({"deltas": 100_000})
            await call.read()
            call.cancel()
        await sim.await_request("anthropic", outcome="client_closed", count=6)
        status = await caller.status(*CLAUDE)
        assert (status.breaker, status.failures) == (llm_pb2.BREAKER_STATE_CLOSED, 0)


@pytest.mark.parametrize(
    "plan",
    [
        {"anthropic": {"status": 529}, "*": FINE},
        {"code": "content_policy"},
        {"deltas": 9, "cut_after": 3},
        {"status": 500},
        {"deltas": 9, "stall_after": 3},
    ],
    ids=str,
)
async def test_what_was_asked_goes_with_its_call_and_waits_for_no_collection(
    sim: Simulator, plan: dict[str, object]
) -> None:
    async with open_worker(sim, **QUICK) as caller:
        with no_collections():
            with suppress(Refused):
                await caller.generate(plan)
            await no_question_is_left()


async def test_what_a_cancelled_call_asked_goes_with_it(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        with no_collections():
            call = caller.call({"deltas": 100_000})
            await call.read()
            call.cancel()
            await no_question_is_left()


async def test_the_callers_deadline_ends_the_providers_call(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        refused = await refusal(caller, {"deltas": 100_000}, timeout_s=0.5)
        assert refused.status is grpc.StatusCode.DEADLINE_EXCEEDED
        await sim.await_request("anthropic", outcome="client_closed")
        assert (await caller.status(*CLAUDE)).failures == 0


async def test_without_a_deadline_of_the_callers_the_configured_one_holds(sim: Simulator) -> None:
    async with open_worker(sim, SWITCHBOARD__WORKER__GENERATE_DEADLINE_S="0.3") as caller:
        call = caller.stub.Generate(question({"deltas": 100_000}), metadata=caller.metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert Refused(caught.value).reason == "DEADLINE_EXCEEDED"


async def test_a_target_without_a_key_is_left_out(sim: Simulator) -> None:
    async with open_worker(sim, ANTHROPIC_API_KEY="") as caller:
        assert (await caller.generate(FINE)).tried == ["grok"]
        assert not (await caller.status(*CLAUDE)).configured
        offered = {model.id: model.provider for model in (await caller.ask("ListModels", MODELS)).models}
        assert (offered["claude-sonnet-4-5"], offered["assistant"]) == ("grok", "grok")


async def test_without_any_key_the_caller_is_told_so(sim: Simulator) -> None:
    async with open_worker(sim, ANTHROPIC_API_KEY="", GROK_API_KEY="", OPENAI_API_KEY="") as caller:
        refused = await refusal(caller)
        assert (refused.reason, refused.status) == ("NO_API_KEY", grpc.StatusCode.FAILED_PRECONDITION)
        assert not (await caller.ask("ListModels", MODELS)).models


async def test_models_and_routes_that_can_be_asked_for_are_listed(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        offered = {model.id: model for model in (await caller.ask("ListModels", MODELS)).models}
        assert {"assistant", "claude", "gpt-4o", "grok-4", "claude-sonnet-4-5"} <= offered.keys()
        assert (offered["gpt-4o"].provider, offered["gpt-4o"].context_tokens) == ("openai", 128_000)
        for name in offered:
            assert (await caller.generate(FINE, model=name)).text == "fine"


async def test_another_openai_compatible_provider_is_a_matter_of_configuration(sim: Simulator) -> None:
    added = {
        "SWITCHBOARD__PROVIDERS__TOGETHER__BASE_URL": sim.openai_url("together"),
        "SWITCHBOARD__PROVIDERS__TOGETHER__API_KEY_ENV": '["TOGETHER_KEY"]',
        "SWITCHBOARD__MODELS__LLAMA__PROVIDER": "together",
        "TOGETHER_KEY": "key-of-together",
    }
    async with open_worker(sim, **added) as caller:
        heard = await caller.generate(FINE, model="llama")
    assert (heard.text, heard.provider, heard.answer.model) == ("fine", "together", "llama")


MODELS, STATUS = llm_pb2.ListModelsRequest(), llm_pb2.GetProviderStatusRequest()


def told(**fields: object) -> llm_pb2.GenerateRequest:
    return llm_pb2.GenerateRequest(**{"messages": [user("hi")], **fields})  # type: ignore[arg-type]


def part(**kind: object) -> list[llm_pb2.InputMessage]:
    made = llm_pb2.Part(**kind)  # type: ignore[arg-type]
    return [llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part(text="see"), made])]


SYSTEM = llm_pb2.InputMessage(role=chat_pb2.ROLE_SYSTEM, parts=[llm_pb2.Part(text="Be kind.")])


def called(**fields: str) -> llm_pb2.InputMessage:
    call = llm_pb2.ToolCall(**{"id": "1", "name": "look", "arguments": "{}", **fields})
    return llm_pb2.InputMessage(role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(tool_call=call)])


RESULT = llm_pb2.InputMessage(
    role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part(tool_result=llm_pb2.ToolResult(tool_call_id="1", text="found"))]
)
ASSISTANT_IMAGE = llm_pb2.InputMessage(
    role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(image=llm_pb2.Image(url="https://x.test/a.png"))]
)
ASSISTANT = llm_pb2.InputMessage(role=chat_pb2.ROLE_ASSISTANT, parts=[llm_pb2.Part(text="I")])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (llm_pb2.GenerateRequest(), "messages"),
        (told(messages=[SYSTEM]), "messages"),
        (told(messages=[user("hi"), ASSISTANT]), "messages"),
        (told(messages=[llm_pb2.InputMessage(role=chat_pb2.ROLE_USER)]), "messages[0].parts"),
        (told(messages=[llm_pb2.InputMessage(parts=[llm_pb2.Part(text="hi")])]), "messages[0].role"),
        (told(messages=[SYSTEM, user("")]), "messages[1].parts[0]"),
        (told(messages=part(image=llm_pb2.Image(url="http://x.test/a.png"))), "messages[0].parts[1].image.url"),
        (told(messages=part(image=llm_pb2.Image(url="https://" + "x" * 2048))), "messages[0].parts[1].image.url"),
        (
            told(messages=part(image=llm_pb2.Image(url="https://x.test/a", media_type="image/png"))),
            "messages[0].parts[1].image.media_type",
        ),
        (told(messages=part(image=llm_pb2.Image())), "messages[0].parts[1].image"),
        (told(messages=part(image=llm_pb2.Image(content=b"x"))), "messages[0].parts[1].image.media_type"),
        (
            told(messages=part(image=llm_pb2.Image(content=b"x" * (3 * 1024 * 1024 + 1), media_type="image/png"))),
            "messages[0].parts[1].image",
        ),
        (told(messages=[ASSISTANT_IMAGE, user("hi")]), "messages[0].parts[0].image"),
        (told(messages=part(tool_call=llm_pb2.ToolCall(id="1"))), "messages[0].parts[1].tool_call"),
        (told(messages=part(tool_result=llm_pb2.ToolResult(text="1"))), "messages"),
        (told(messages=[called(id=""), user("hi")]), "messages[0].parts[0].tool_call.id"),
        (told(messages=[called(name="a b"), user("hi")]), "messages[0].parts[0].tool_call.name"),
        (told(messages=[called(arguments="[1]"), user("hi")]), "messages[0].parts[0].tool_call.arguments"),
        (told(messages=[called(arguments="{"), user("hi")]), "messages[0].parts[0].tool_call.arguments"),
        (
            told(messages=[called(arguments='{"a":' * 101 + "1" + "}" * 101), user("hi")]),
            "messages[0].parts[0].tool_call.arguments",
        ),
        (told(messages=[called(), user("no result")]), "messages"),
        (told(messages=[called(), RESULT, ASSISTANT, RESULT]), "messages"),
        (told(temperature=2.5), "temperature"),
        (told(temperature=-0.1), "temperature"),
        (told(temperature=float("nan")), "temperature"),
        (told(max_output_tokens=128_001), "max_output_tokens"),
        (told(stop=["a", "b", "c", "d", "e"]), "stop"),
        (told(stop=["a", ""]), "stop[1]"),
        (told(tools=[llm_pb2.Tool(name="look up")]), "tools[0].name"),
        (told(tools=[llm_pb2.Tool(name="look"), llm_pb2.Tool(name="look")]), "tools[1].name"),
        (told(tools=[llm_pb2.Tool(name=f"t{at}") for at in range(129)]), "tools"),
        (told(tool_choice=llm_pb2.TOOL_CHOICE_REQUIRED), "tool_choice"),
        (told(tools=[llm_pb2.Tool(name="look")], tool_choice=7), "tool_choice"),
        (told(tools=[llm_pb2.Tool(name="look")], tool_choice_name="see"), "tool_choice_name"),
        (told(messages=[user("hi")] * 10_001), "messages"),
        (told(messages=[llm_pb2.InputMessage(role=chat_pb2.ROLE_USER, parts=[llm_pb2.Part()] * 10_001)]), "messages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_malformed_request_is_refused_with_its_field(
    sim: Simulator, request_: llm_pb2.GenerateRequest, field: str
) -> None:
    async with open_worker(sim) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.stub.Generate(request_, metadata=caller.metadata, timeout=10).read()
    refused = Refused(caught.value)
    assert (refused.reason, refused.fields) == ("INVALID_ARGUMENT", [field])
    assert field in refused.message
    assert not sim.requests()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (llm_pb2.StartTurnRequest(), "chat_id"),
        (llm_pb2.StartTurnRequest(turn_id="t"), "chat_id"),
        (llm_pb2.StartTurnRequest(chat_id="c" * 129), "chat_id"),
        (llm_pb2.StartTurnRequest(chat_id="a chat"), "chat_id"),
        (llm_pb2.StartTurnRequest(chat_id="c", turn_id="t" * 129), "turn_id"),
        (llm_pb2.StartTurnRequest(chat_id="c", turn_id="{t}"), "turn_id"),
    ],
    ids=str,
)
async def test_a_turn_that_can_not_be_named_so_is_refused_with_its_field(
    sim: Simulator, request_: llm_pb2.StartTurnRequest, field: str
) -> None:
    async with open_worker(sim) as caller:
        with pytest.raises(Refused) as caught:
            await caller.ask("StartTurn", request_)
    assert (caught.value.reason, caught.value.fields) == ("INVALID_ARGUMENT", [field])


async def test_a_deadline_of_a_century_is_one(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        assert (await caller.generate(FINE, timeout_s=3e9)).text == "fine"


async def test_an_unknown_model_is_not_found(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        assert (await refusal(caller, model="gpt-99")).reason == "NOT_FOUND"


async def test_roles_and_limits_reach_the_provider(sim: Simulator) -> None:
    messages = [ASSISTANT, user("a"), SYSTEM, user("b")]
    async with open_worker(sim) as caller:
        call = caller.stub.Generate(
            told(messages=messages, max_output_tokens=9, temperature=0.5, model="gpt-4o"), metadata=caller.metadata
        )
        async for _ in call:
            pass
        call = caller.stub.Generate(told(messages=messages, model="claude"), metadata=caller.metadata)
        async for _ in call:
            pass
    gpt, claude = sim.requests("openai")[0], sim.requests("anthropic")[0]
    assert [message["role"] for message in gpt.messages] == ["system", "assistant", "user"]
    assert gpt.messages[2]["content"] == "a\n\nb"
    assert (gpt.parameters["max_completion_tokens"], gpt.parameters["temperature"]) == (9, 0.5)
    assert claude.parameters["system"] == "Be kind."
    assert [message["role"] for message in claude.messages] == ["user", "assistant", "user"]


async def test_a_call_without_the_service_token_is_refused(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        caller.metadata = service_metadata("wrong")
        assert (await refusal(caller)).status is grpc.StatusCode.UNAUTHENTICATED


async def test_a_full_worker_says_so(sim: Simulator) -> None:
    async with open_worker(sim, SWITCHBOARD__WORKER__MAX_TURNS="1") as caller:
        call = caller.call({"deltas": 100_000})
        await call.read()
        assert (await refusal(caller)).reason == "OVERLOADED"
        call.cancel()


async def test_a_hundred_answers_at_once_each_come_whole(sim: Simulator) -> None:
    async with open_worker(sim) as caller:
        texts = [f"{n:03d};" * 100 for n in range(100)]
        plans = [{"text": text, "deltas": 100, "interval_ms": 3} for text in texts]
        models = ["claude", "gpt", "grok"]
        answers = await asyncio.gather(*(caller.generate(plan, model=models[n % 3]) for n, plan in enumerate(plans)))
    assert [heard.text for heard in answers] == texts


def test_every_outcome_that_ends_the_route_tells_the_user_what_to_do() -> None:
    assert {outcome.name for outcome in Outcome if not outcome.value.next} == {"CONTEXT_TOO_LONG", "CONTENT_REFUSED"}
