"""OpenAI-compatible chat completions: any OpenAI client gets the breakers and the fallback. Stateless, by `Generate`.

Public document: https://platform.openai.com/docs/api-reference/chat. Subsystem: docs/subsystems/gateway.md.

    POST /v1/chat/completions  {"model":"claude","messages":[{"role":"user","content":"Hi"}],"stream":true}
    data: {"id":"chatcmpl-..","object":"chat.completion.chunk","created":1,"model":"claude-x","choices":[{"index":0,
           "delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
    data: [DONE]
    GET /v1/models, GET /v1/models/{model}
    error: {"error":{"message":"..","type":"invalid_request_error","param":"model","code":"model_not_found"}}

Ours: GET /v1/usage?from=2026-11-01&to=2026-11-20&user=  what answers have cost, by day and model (`usage.py`)

Takes the API key or a user token. Text, pictures, tools (functions) and their results go through. Deviations:
- Functions in their old form (`functions`, `function_call`, role "function"), audio, files, more than one choice, JSON
  output, logprobs and logit_bias change what the answer means, and are refused with 400. Other parameters that we do
  not know, or that only tune sampling (top_p, penalties, seed), bookkeeping (user, store, metadata) or a picture's
  `detail`, are ignored.
- A tool's `strict` is ignored: not every provider can promise it. `tool_choice` is a word or one function.
- A picture has an https URL, which the provider fetches, or is a data URL of at most 3 MiB.
- Every tool call has its result right behind it, and `arguments` of those that are sent are a JSON object.
- Reasoning, where a model shows it, is `reasoning_content` beside `content`, as DeepSeek and xAI have it.
- `model` in an answer is the model that gave it, which a fallback may have changed.
- A stream that breaks ends with `data: {"error": ...}` and without `[DONE]`: what came is not the whole answer.
"""

from gateway.credential import Credential
from gateway.dialect import Dialect, Services
from gateway.dialects.openai_compat.completions import add_completions
from gateway.dialects.openai_compat.failures import Failed, shape
from gateway.dialects.openai_compat.models import add_models
from gateway.dialects.openai_compat.usage import add_usage
from gateway.http import guarded_router

NAME = "openai_compat"


def dialect(services: Services) -> Dialect:
    """The routes under /v1."""
    router = guarded_router(
        "/v1", "OpenAI-compatible", services.doorkeeper.anyone, Credential.API_KEY, Credential.USER_TOKEN
    )
    add_completions(router, services)
    add_models(router, services)
    add_usage(router, services)
    return Dialect(NAME, router, errors={"/v1": shape}, failure=Failed, invalid=Failed)
