"""What an answer cost: counted by the provider, else estimated; priced by the configuration."""

import pytest
from simulator.process import Simulator

from .harness import open_worker, user

TEXT = "The quick brown fox jumps over the lazy dog; then it sleeps in the sun for a whole day, and dreams of hens."
COUNTED = {"text": "fine", "usage": {"input_tokens": 1000, "output_tokens": 10}}


@pytest.mark.parametrize(
    ("model", "nano_usd"),
    [("claude-sonnet-4-5", 3_000_000 + 150_000), ("gpt-4o-mini", 150_000 + 6_000), ("grok-3", 3_000_000 + 150_000)],
)
async def test_an_answer_costs_its_tokens_at_its_models_prices(sim: Simulator, model: str, nano_usd: int) -> None:
    async with open_worker(sim) as caller:
        answer = (await caller.generate(COUNTED, model=model)).answer
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated) == (1000, 10, False)
    assert answer.usage.cost_nano_usd == answer.attempts[0].usage.cost_nano_usd == nano_usd
    assert answer.attempts[0].billed


async def test_a_model_without_a_price_costs_nothing_that_is_known(sim: Simulator) -> None:
    prices = {f"SWITCHBOARD__MODELS__GPT-4O__{way}_USD": "0" for way in ("INPUT", "OUTPUT")}
    async with open_worker(sim, **prices) as caller:
        assert (await caller.generate(COUNTED, model="gpt-4o")).answer.usage.cost_nano_usd == 0


async def test_of_a_cut_attempt_its_own_part_is_estimated_and_no_more(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"text": TEXT, "delta_chars": 20, "cut_after": 2})
    sim.set_plans("grok", then={"text": TEXT, "goes_on": 0, "usage": {"input_tokens": 100, "output_tokens": 20}})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    cut, whole = heard.answer.attempts
    assert heard.text == TEXT
    assert (cut.usage.estimated, cut.usage.output_tokens, cut.billed) == (True, 10, True)
    # "hello": 1.25 and 4 for the line.
    assert cut.usage.input_tokens == 6
    assert cut.usage.cost_nano_usd == 6 * 3000 + 10 * 15_000
    assert (whole.usage.estimated, whole.usage.cost_nano_usd) == (False, 100 * 3000 + 20 * 15_000)
    total = heard.answer.usage
    assert (total.input_tokens, total.output_tokens, total.estimated) == (106, 30, True)
    assert total.cost_nano_usd == cut.usage.cost_nano_usd + whole.usage.cost_nano_usd


async def test_of_one_that_went_on_and_was_cut_in_its_turn_only_what_it_added_is_estimated(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"text": TEXT, "delta_chars": 20, "cut_after": 2})
    sim.set_plans("grok", then={"text": TEXT, "goes_on": 0, "delta_chars": 12, "cut_after": 1})
    sim.set_plans("openai", then={"text": TEXT, "goes_on": 0})
    async with open_worker(sim) as caller:
        heard = await caller.generate()
    assert heard.text == TEXT
    assert [one.usage.output_tokens for one in heard.answer.attempts[:2]] == [10, 3]


async def test_what_was_refused_costs_nothing_and_what_was_too_slow_its_input(sim: Simulator) -> None:
    sim.set_plans("anthropic", then={"first_token_ms": 60_000})
    sim.set_plans("grok", then={"status": 429})
    async with open_worker(sim, SWITCHBOARD__WORKER__TTFT_TIMEOUT_S="0.3") as caller:
        slow, limited, whole = (await caller.generate()).answer.attempts
    assert (slow.billed, slow.usage.input_tokens, slow.usage.output_tokens) == (True, 6, 0)
    assert not limited.billed
    assert not limited.HasField("usage")
    assert whole.billed


async def test_estimates_follow_what_the_provider_counts(sim: Simulator) -> None:
    text = "word " * 400
    counted = {"text": "fine", "usage": {"input_tokens": 1000, "output_tokens": 1}}
    sim.set_plans("anthropic", *[counted] * 40, then={"text": TEXT, "cut_after": 3})
    async with open_worker(sim) as caller:
        for _ in range(40):
            await caller.generate(messages=[user(text)])
        heard = await caller.generate(messages=[user(text)])
    assert heard.answer.attempts[0].usage.estimated
    assert heard.answer.attempts[0].usage.input_tokens == pytest.approx(1000, rel=0.05)


async def test_a_models_own_patience_wins_over_the_workers(sim: Simulator) -> None:
    patient = {
        "SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0.2",
        "SWITCHBOARD__MODELS__GPT-5__TTFT_TIMEOUT_S": "30",
    }
    sim.set_plans("openai", then={"text": "thought", "first_token_ms": 600})
    async with open_worker(sim, **patient) as caller:
        assert (await caller.generate(model="gpt-5")).tried == ["openai"]
        assert (await caller.generate(model="gpt-4o")).tried == ["openai", "anthropic"]
