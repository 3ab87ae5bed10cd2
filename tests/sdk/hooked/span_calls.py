"""Calls of models that OpenTelemetry's instrumentations tell of, against a provider on this machine: ``… [5m]``."""

import os
import sys

import anthropic
import openai
from byok_sdk import Meter, tagged
from byok_sdk.hooks.opentelemetry import record_spans
from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider

URL = os.environ["PROVIDER_URL"]
PROMPT, KEY = "a prompt that nobody may keep", "sk-test-that-nobody-may-keep"
SAID = [{"role": "user", "content": PROMPT}]

meter = Meter.from_env()
provider = TracerProvider()
record_spans(provider, meter, cache_life="5m" if "5m" in sys.argv else None)
OpenAIInstrumentor().instrument(tracer_provider=provider)
AnthropicInstrumentor().instrument(tracer_provider=provider)


def calls() -> None:
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    for model in ("gpt-5.6-2026-03-01", "gpt-audio-2"):
        assert client.chat.completions.create(model=model, messages=SAID).choices
        assert list(client.chat.completions.create(model=model, messages=SAID, **usage))
    assert client.embeddings.create(model="text-embedding-3-small", input=PROMPT).data
    other = anthropic.Anthropic(base_url=URL, api_key=KEY)
    asked = {"model": "claude-opus-4-5", "messages": SAID, "max_tokens": 9}
    assert other.messages.create(**asked).content
    assert list(other.messages.create(stream=True, **asked))


if __name__ == "__main__":
    run = meter.run(org="acme", user="u1", team="t1", run_id="r42")
    with tagged(run.tags("plan")), provider.get_tracer("a runner's").start_as_current_span("a step"):
        calls()
    assert meter.close(float(os.environ["PATIENCE_SECONDS"]))
    sys.stdout.write(f"not recorded: {meter.observer.not_recorded}\n")
