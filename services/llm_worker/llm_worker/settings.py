"""The worker's settings: one frozen object, read once from the environment and the configuration file.

Nothing else in the worker touches `os.environ`. What each key of the file means is said in `switchboard.toml`; here
stands what the worker makes of it, and what it refuses to start with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime import config
from runtime.environment import Environment, SettingError

WEB = ("http", "https")
MAX_NAME_BYTES = 200
"""Of what stands in records of usage: longer ones are refused there."""
MOST_OF_A_MODEL = {"context_tokens": 10**9, "ttft_timeout_s": 3600, "input_usd": 1000, "output_usd": 1000}
"""Far above what there is, and low enough that no count of tokens makes a cost that no field holds."""
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an attempt may take for its parts, in seconds."""

    connect_s: float
    ttft_s: float
    """From the request to the first token."""
    idle_s: float
    """Silence between tokens."""
    generate_s: float
    """A `Generate` without a deadline of its caller's."""


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """How often a provider's call is repeated, and after what waits."""

    max_attempts: int
    """For one answer."""
    max_attempts_per_target: int
    """Of them."""
    max_continuations: int
    """Of them, those that go on with what was cut."""
    backoff_base_s: float
    """The first wait at the most; each further one may be twice as long."""
    backoff_cap_s: float
    retry_after_max_s: float
    """A Retry-After that is waited for; after a longer one the next target is asked at once."""


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When an answer that is late is asked of a second target too."""

    enabled: bool
    max_share: float
    """Of all answers, 0 to 1."""
    min_samples: int
    """First tokens of a target that its p95 takes."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a target is left alone."""

    failure_threshold: int
    reset_timeout_s: float
    cooldown_s: float
    """After a 429 that does not say how long."""
    max_cooldown_s: float
    refused_key_cooldown_s: float


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider. An empty key: it is not configured, and its models are left out of every route."""

    name: str
    kind: str
    """The module of `llm_worker.providers` that speaks to it."""
    base_url: str
    key: str = field(repr=False)
    limit_field: str
    """The request's field for the limit on output tokens, where the wire has several."""
    fallbacks: tuple[str, ...]
    """Models that stand in for any of this provider's."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model that can be asked for."""

    id: str
    provider: str
    name: str
    """In the provider's words."""
    context_tokens: int
    """0: unknown."""
    takes_temperature: bool
    prefill: bool = False
    """It goes on with an answer of its own that a request ends with."""
    ttft_timeout_s: float = 0.0
    """0: as `Timeouts.ttft_s` says."""
    input_usd: float = 0.0
    """Of a million tokens; 0: unknown."""
    output_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Persona:
    """How answers are made where a chat says nothing."""

    system_prompt: str
    temperature: float
    max_output_tokens: int
    """0: the worker's default."""
    route: str
    own_keys: bool = False
    """Its answers are made with the user's own provider key where there is one."""
    knowledge: bool = False
    """Each message is looked up in the knowledge store."""
    profile: bool = False
    """The model is given the profile of the chat's owner."""


@dataclass(frozen=True, slots=True)
class KnowledgeSettings:
    """Where the knowledge store is and how it is asked. OpenSearch's host wins over the folder."""

    host: str
    """OPENSEARCH_HOST: a URL, or a host alone, which is then https on port 9200; empty: not OpenSearch."""
    user: str
    """OPENSEARCH_USER; empty: without authentication."""
    password: str = field(repr=False)
    """OPENSEARCH_PWD."""
    folder: str
    """KNOWLEDGE_DIR: of the embedded index; it need not exist yet. Empty: not embedded."""
    index: str
    timeout_s: float
    """For the store and the profile together."""
    passages: int
    embedding_provider: ProviderSettings | None
    """None: no vectors, words alone."""
    embedding_model: str
    embedding_dimensions: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the worker can be told."""

    host: str
    port: int
    """0: any free one; the `ready` line says which."""
    session_addr: str
    token: str = field(repr=False)
    """The service token, `INTERNAL_TOKEN`."""
    worker_token: str = field(repr=False)
    """The first of `WORKER_TOKEN`: opens users' own provider keys. Empty: they are not used."""
    platform_fallback: bool
    """`PLATFORM_FALLBACK`: the platform's route follows when the provider of a user's own key is down."""
    log_level: str
    reflection: bool
    drain_s: float
    """How long turns under way may go on after SIGTERM."""
    max_turns: int
    default_route: str
    max_output_tokens: int
    max_context_tokens: int
    proxies: Mapping[str, str]
    """On the way to providers: a URL by scheme, and under "no" the hosts that need none. HTTPS_PROXY, HTTP_PROXY,
    NO_PROXY, also in lower case."""
    timeouts: Timeouts
    retries: RetrySettings
    hedging: HedgeSettings
    breaker: BreakerSettings
    providers: Mapping[str, ProviderSettings]
    models: Mapping[str, ModelSettings]
    routes: Mapping[str, tuple[str, ...]]
    personas: Mapping[str, Persona]
    knowledge: KnowledgeSettings


def read(variables: Mapping[str, str]) -> Settings:
    """Reads everything and checks that it fits together. Raises: SettingError."""
    environment = Environment(variables)
    table = config.load(variables)
    worker, retries, hedging, breaker = table["worker"], table["retries"], table["hedging"], table["breaker"]
    for section, keys in (("worker", worker), ("retries", retries), ("hedging", hedging), ("breaker", breaker)):
        for key, value in keys.items():
            if isinstance(value, int | float) and value <= 0 and not isinstance(value, bool):
                raise SettingError(f"{section}.{key} must be greater than 0, not {value:g}")
    if not hedging["max_share"] <= 1:
        raise SettingError(f"hedging.max_share must be at most 1, not {hedging['max_share']:g}")
    log_level = environment.text("LOG_LEVEL", "info").lower()
    if log_level not in LOG_LEVELS:
        raise SettingError(f"LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    settings = Settings(
        host=environment.text("LLM_WORKER_HOST", "127.0.0.1"),
        port=environment.port("LLM_WORKER_PORT", 50052),
        session_addr=environment.text("SESSION_ADDR", "localhost:50051"),
        token=environment.text("INTERNAL_TOKEN"),
        worker_token=next(iter(environment.words("WORKER_TOKEN")), ""),
        platform_fallback=environment.flag("PLATFORM_FALLBACK", True),
        log_level=log_level,
        reflection=environment.flag("GRPC_REFLECTION", True),
        drain_s=environment.number("DRAIN_SECONDS", 30, low=0, high=3600),
        max_turns=worker["max_turns"],
        default_route=worker["default_route"],
        max_output_tokens=worker["max_output_tokens"],
        max_context_tokens=worker["max_context_tokens"],
        proxies=_proxies(environment),
        timeouts=Timeouts(
            connect_s=worker["connect_timeout_s"],
            ttft_s=worker["ttft_timeout_s"],
            idle_s=worker["idle_timeout_s"],
            generate_s=worker["generate_deadline_s"],
        ),
        retries=RetrySettings(
            max_attempts=retries["max_attempts"],
            max_attempts_per_target=retries["max_attempts_per_target"],
            max_continuations=retries["max_continuations"],
            backoff_base_s=retries["backoff_base_s"],
            backoff_cap_s=retries["backoff_cap_s"],
            retry_after_max_s=retries["retry_after_max_s"],
        ),
        hedging=HedgeSettings(
            enabled=hedging["enabled"], max_share=hedging["max_share"], min_samples=hedging["min_samples"]
        ),
        breaker=BreakerSettings(
            failure_threshold=breaker["failure_threshold"],
            reset_timeout_s=breaker["reset_timeout_s"],
            cooldown_s=breaker["cooldown_s"],
            max_cooldown_s=breaker["max_cooldown_s"],
            refused_key_cooldown_s=breaker["refused_key_cooldown_s"],
        ),
        providers={name: _provider(environment, name, entry) for name, entry in table["providers"].items()},
        models={model_id: _model(model_id, entry) for model_id, entry in table["models"].items()},
        routes={name: tuple(models) for name, models in table["routes"].items()},
        personas={name: _persona(name, entry) for name, entry in table["personas"].items()},
        knowledge=_knowledge(environment, table),
    )
    _check(settings)
    return settings


def read_knowledge(variables: Mapping[str, str]) -> KnowledgeSettings:
    """What alone the loader needs. Raises: SettingError."""
    return _knowledge(Environment(variables), config.load(variables))


def _knowledge(environment: Environment, table: config.Table) -> KnowledgeSettings:
    entry = table["knowledge"]
    for key, value in entry.items():
        if isinstance(value, int | float) and value <= 0:
            raise SettingError(f"knowledge.{key} must be greater than 0, not {value:g}")
    host = environment.text("OPENSEARCH_HOST", "")
    if host and "://" not in host:
        host = f"https://{host}" if ":" in host else f"https://{host}:9200"
    if host:
        Environment({"OPENSEARCH_HOST": host}).url("OPENSEARCH_HOST", None, schemes=WEB)
    user = environment.text("OPENSEARCH_USER", "")
    name = entry["embedding_provider"]
    if name and name not in table["providers"]:
        raise SettingError(f"knowledge.embedding_provider names no provider: {name!r}")
    provider = _provider(environment, name, table["providers"][name]) if name else None
    if provider is not None and not provider.key:
        raise SettingError(f"knowledge.embedding_provider: {name!r} has no key")
    return KnowledgeSettings(
        host=host.rstrip("/"),
        user=user,
        password=environment.text("OPENSEARCH_PWD", None if user else ""),
        folder=environment.text("KNOWLEDGE_DIR", ""),
        index=entry["index"],
        timeout_s=entry["timeout_s"],
        passages=entry["passages"],
        embedding_provider=provider,
        embedding_model=entry["embedding_model"],
        embedding_dimensions=entry["embedding_dimensions"],
    )


def _proxies(environment: Environment) -> dict[str, str]:
    names = {"https": "HTTPS_PROXY", "http": "HTTP_PROXY", "no": "NO_PROXY"}
    found = {key: environment.first(name.lower(), name) for key, name in names.items()}
    return {key: value for key, value in found.items() if value}


def _provider(environment: Environment, name: str, entry: config.Table) -> ProviderSettings:
    kind = entry.get("kind", "openai")
    variable = next((one for one in entry.get("base_url_env", ()) if environment.text(one, "")), "")
    if variable:
        base_url = environment.url(variable, None, schemes=WEB)
    else:
        label = f"providers.{name}.base_url"
        base_url = Environment({label: entry.get("base_url", "")}).url(label, None, schemes=WEB)
    return ProviderSettings(
        name=name,
        kind=kind,
        base_url=base_url.rstrip("/"),
        key=environment.first(*entry.get("api_key_env", ())),
        limit_field=entry.get("limit_field", "max_tokens"),
        fallbacks=tuple(entry.get("fallbacks", ())),
    )


def _model(model_id: str, entry: config.Table) -> ModelSettings:
    for key, most in MOST_OF_A_MODEL.items():
        if not 0 <= entry.get(key, 0) <= most:
            raise SettingError(f"models.{model_id}.{key} must be from 0 to {most:,}, not {entry[key]:g}")
    return ModelSettings(
        id=model_id,
        provider=entry.get("provider", ""),
        name=entry.get("name") or model_id,
        context_tokens=entry.get("context_tokens", 0),
        takes_temperature=entry.get("takes_temperature", True),
        prefill=entry.get("prefill", False),
        ttft_timeout_s=entry.get("ttft_timeout_s", 0.0),
        input_usd=entry.get("input_usd", 0.0),
        output_usd=entry.get("output_usd", 0.0),
    )


def _persona(name: str, entry: config.Table) -> Persona:
    temperature = entry.get("temperature", 1.0)
    if not 0 <= temperature <= 2:
        raise SettingError(f"personas.{name}.temperature must be a number from 0 to 2, not {temperature:g}")
    return Persona(
        system_prompt=entry.get("system_prompt", "").strip(),
        temperature=temperature,
        max_output_tokens=entry.get("max_output_tokens", 0),
        route=entry.get("route", ""),
        own_keys=entry.get("own_keys", False),
        knowledge=entry.get("knowledge", False),
        profile=entry.get("profile", False),
    )


def _check(settings: Settings) -> None:
    """Names must lead somewhere: a typing mistake in a route would otherwise show at the worst moment."""
    for model in settings.models.values():
        if max(len(model.name.encode()), len(model.provider.encode())) > MAX_NAME_BYTES:
            raise SettingError(f"models.{model.id}: a name, its provider's too, has {MAX_NAME_BYTES} bytes at the most")
        if model.provider not in settings.providers:
            raise SettingError(f"models.{model.id}.provider names no provider: {model.provider!r}")
    lists = {f"routes.{name}": models for name, models in settings.routes.items()}
    lists |= {f"providers.{one.name}.fallbacks": one.fallbacks for one in settings.providers.values()}
    for place, models in lists.items():
        for model_id in models:
            if model_id not in settings.models:
                raise SettingError(f"{place} names no model of [models]: {model_id!r}")
    known = settings.routes.keys() | settings.models.keys()
    if settings.default_route not in known:
        raise SettingError(f"worker.default_route names no route and no model: {settings.default_route!r}")
    if "default" not in settings.personas:
        raise SettingError("personas.default must be there: it answers for every chat without a persona")
    for name, persona in settings.personas.items():
        if persona.route and persona.route not in known:
            raise SettingError(f"personas.{name}.route names no route and no model: {persona.route!r}")
