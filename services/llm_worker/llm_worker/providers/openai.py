"""OpenAI, and any other provider that speaks its wire (`kind = "openai"` in the configuration).

Document: https://platform.openai.com/docs/api-reference/chat. One frame a direction: see `llm_worker.openai_wire`.
Deviations: none known. The limit on output tokens goes in the field that the configuration names: OpenAI's reasoning
models refuse `max_tokens`, many imitators know nothing else.
"""

import httpx2

from llm_worker.openai_wire import OpenAIClient
from llm_worker.provider import Provider
from llm_worker.settings import ProviderSettings


def open_provider(settings: ProviderSettings, http_client: httpx2.AsyncClient) -> Provider:
    """The adapter."""
    return OpenAIClient(settings, http_client)
