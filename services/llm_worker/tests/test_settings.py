"""Settings: defaults that work, an operator's changes, and errors that name what is wrong."""

import dataclasses
from pathlib import Path

import pytest
from llm_worker import settings
from runtime.environment import SettingError

NEEDED = {"INTERNAL_TOKEN": "secret-token"}


def test_the_defaults_are_complete() -> None:
    read = settings.read(NEEDED)
    assert (read.host, read.port, read.session_addr) == ("127.0.0.1", 50052, "localhost:50051")
    assert read.routes["assistant"] == ("claude-sonnet-4-5", "grok-4", "gpt-4o")
    assert set(read.personas) >= {"faye", "foodhak", "elogrants", "socializer", "arketic", "openai", "default"}
    assert (read.breaker.failure_threshold, read.breaker.reset_timeout_s) == (5, 25)
    assert (read.timeouts.ttft_s, read.timeouts.idle_s) == (10, 20)
    assert read.providers["grok"].base_url == "https://api.x.ai/v1"


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("anthropic", "ANTHROPIC_PRODUCTION_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("grok", "GROK_API_KEY"),
        ("grok", "PRODUCTION_GROK_API_KEY"),
    ],
)
def test_a_key_is_read_from_any_of_its_names_and_never_shown(provider: str, variable: str) -> None:
    read = settings.read({**NEEDED, variable: "sk-very-secret"})
    assert read.providers[provider].key == "sk-very-secret"
    assert "secret" not in repr(read)


def test_users_own_keys_are_used_by_arketic_alone_and_the_platform_follows() -> None:
    read = settings.read({**NEEDED, "WORKER_TOKEN": "new-secret, old-secret"})
    assert [name for name, persona in read.personas.items() if persona.own_keys] == ["arketic"]
    assert (read.worker_token, read.platform_fallback) == ("new-secret", True)
    assert "secret" not in repr(read)
    assert settings.read(NEEDED).worker_token == ""
    assert not settings.read({**NEEDED, "PLATFORM_FALLBACK": "false"}).platform_fallback


@pytest.mark.parametrize("variable", ["GROK_BASE_URL", "PRODUCTION_GROK_URL"])
def test_a_base_url_is_read_from_any_of_its_names(variable: str) -> None:
    read = settings.read({**NEEDED, variable: "http://127.0.0.1:1/grok/v1/"})
    assert read.providers["grok"].base_url == "http://127.0.0.1:1/grok/v1"


def test_a_file_is_laid_over_the_defaults_and_may_name_another_provider(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        """
        [worker]
        ttft_timeout_s = 3
        [providers.together]
        kind = "openai"
        base_url = "https://api.together.xyz/v1"
        api_key_env = ["TOGETHER_API_KEY"]
        [models.llama]
        provider = "together"
        [routes]
        assistant = ["llama", "gpt-4o"]
        """
    )
    read = settings.read({**NEEDED, "SWITCHBOARD_CONFIG": str(file), "TOGETHER_API_KEY": "t"})
    assert (read.timeouts.ttft_s, read.timeouts.idle_s) == (3.0, 20.0)
    assert dataclasses.asdict(read.providers["together"]) == {
        "name": "together",
        "kind": "openai",
        "base_url": "https://api.together.xyz/v1",
        "key": "t",
        "limit_field": "max_tokens",
        "fallbacks": (),
    }
    assert read.routes["assistant"] == ("llama", "gpt-4o")
    assert "claude" in read.routes


def test_a_single_value_is_overridden_by_the_environment_after_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[worker]\nidle_timeout_s = 1.0\nttft_timeout_s = 1.0\n")
    read = settings.read(
        {
            **NEEDED,
            "SWITCHBOARD_CONFIG": str(file),
            "SWITCHBOARD__WORKER__IDLE_TIMEOUT_S": "7",
            "SWITCHBOARD__ROUTES__CLAUDE": '["claude-opus-4-6"]',
            "SWITCHBOARD__PERSONAS__FAYE__SYSTEM_PROMPT": "Be 1 thing.",
        }
    )
    assert (read.timeouts.ttft_s, read.timeouts.idle_s) == (1.0, 7.0)
    assert read.routes["claude"] == ("claude-opus-4-6",)
    assert read.personas["faye"].system_prompt == "Be 1 thing."


def test_only_foodhak_asks_for_knowledge_and_profiles_by_default() -> None:
    personas = settings.read(NEEDED).personas
    assert [name for name, one in personas.items() if one.knowledge or one.profile] == ["foodhak"]
    assert personas["foodhak"].knowledge and personas["foodhak"].profile


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("", ""),
        ("search.example.com", "https://search.example.com:9200"),
        ("search.example.com:443", "https://search.example.com:443"),
        ("http://10.0.0.1:9200/", "http://10.0.0.1:9200"),
    ],
)
def test_a_host_of_opensearch_alone_is_https_and_its_password_is_not_shown(given: str, host: str) -> None:
    login = {"OPENSEARCH_USER": "admin", "OPENSEARCH_PWD": "very-secret"}
    read = settings.read({**NEEDED, "OPENSEARCH_HOST": given, **login})
    assert (read.knowledge.host, read.knowledge.password) == (host, "very-secret")
    assert "very-secret" not in repr(read)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"INTERNAL_TOKEN": ""}, "INTERNAL_TOKEN"),
        ({"LLM_WORKER_PORT": "http"}, "LLM_WORKER_PORT"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"DRAIN_SECONDS": "-1"}, "DRAIN_SECONDS"),
        ({"PLATFORM_FALLBACK": "perhaps"}, "PLATFORM_FALLBACK"),
        ({"OPENAI_BASE_URL": "api.openai.com"}, "OPENAI_BASE_URL"),
        ({"SWITCHBOARD_CONFIG": "/nowhere/own.toml"}, "/nowhere/own.toml"),
        ({"SWITCHBOARD__WORKER__TTFT_TIMEOUT": "3"}, "worker.ttft_timeout"),
        ({"SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "soon"}, "worker.ttft_timeout_s"),
        ({"SWITCHBOARD__WORKER__TTFT_TIMEOUT_S": "0"}, "worker.ttft_timeout_s"),
        ({"SWITCHBOARD__BREAKER__FAILURE_THRESHOLD": "2.5"}, "breaker.failure_threshold"),
        ({"SWITCHBOARD__HEDGING__MAX_SHARE": "0"}, "hedging.max_share"),
        ({"SWITCHBOARD__HEDGING__MAX_SHARE": "1.5"}, "hedging.max_share"),
        ({"SWITCHBOARD__HEDGING__ENABLED": "1"}, "hedging.enabled"),
        ({"SWITCHBOARD__MODELS__GPT-4O__NAME": "x" * 201}, "models.gpt-4o"),
        ({"SWITCHBOARD__HEDGING__MAX_SHARE": "nan"}, "hedging.max_share"),
        ({"SWITCHBOARD__MODELS__GPT-4O__INPUT_USD": "-1"}, "models.gpt-4o.input_usd"),
        ({"SWITCHBOARD__MODELS__GPT-4O__OUTPUT_USD": "inf"}, "models.gpt-4o.output_usd"),
        ({"SWITCHBOARD__MODELS__GPT-4O__OUTPUT_USD": "nan"}, "models.gpt-4o.output_usd"),
        ({"SWITCHBOARD__MODELS__GPT-4O__TTFT_TIMEOUT_S": "-1"}, "models.gpt-4o.ttft_timeout_s"),
        ({"SWITCHBOARD__WROKER__MAX_TURNS": "3"}, "wroker"),
        ({"SWITCHBOARD__ROUTES__CLAUDE": '["claude-99"]'}, "claude-99"),
        ({"SWITCHBOARD__WORKER__DEFAULT_ROUTE": "nowhere"}, "worker.default_route"),
        ({"SWITCHBOARD__PROVIDERS__MINE__KEY": "x"}, "providers.mine.key"),
        ({"SWITCHBOARD__PROVIDERS__MINE__KIND": "openai"}, "providers.mine.base_url"),
        ({"SWITCHBOARD__MODELS__MINE__PROVIDER": "nobody"}, "models.mine.provider"),
        ({"SWITCHBOARD__PERSONAS__FAYE__TEMPERATURE": "3"}, "personas.faye.temperature"),
        ({"SWITCHBOARD__PERSONAS__FAYE__ROUTE": "nowhere"}, "personas.faye.route"),
        ({"SWITCHBOARD__PERSONAS__FAYE__KNOWLEDGE": "perhaps"}, "personas.faye.knowledge"),
        ({"SWITCHBOARD__KNOWLEDGE__TIMEOUT_S": "0"}, "knowledge.timeout_s"),
        ({"SWITCHBOARD__KNOWLEDGE__EMBEDDING_PROVIDER": "nobody"}, "knowledge.embedding_provider"),
        ({"SWITCHBOARD__KNOWLEDGE__EMBEDDING_PROVIDER": "openai"}, "knowledge.embedding_provider"),
        ({"OPENSEARCH_HOST": "gopher://x"}, "OPENSEARCH_HOST"),
        ({"OPENSEARCH_HOST": "x", "OPENSEARCH_USER": "admin"}, "OPENSEARCH_PWD"),
    ],
)
def test_what_is_wrong_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingError) as caught:
        settings.read({**NEEDED, **variables})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
