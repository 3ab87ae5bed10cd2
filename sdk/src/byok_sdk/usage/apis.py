"""The seven APIs as data: which fields are which unit, what must add up, and what says how it was served.

Sources: the providers' API references and Python packages (openai 2, anthropic 0.9x, google-genai 2), and docs.x.ai,
"Cost Tracking". ``input`` is all of the input, cached and written parts included; ``output`` includes reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byok_sdk.usage.answers import Path

Condition = tuple[str, str]


@dataclass(frozen=True)
class Unit:
    """One unit: the sum of some fields, less others. A field that is missing counts nothing; so does an explicit 0."""

    plus: tuple[Path, ...]
    minus: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Served:
    """Where the provider says how it served the request, and what that means.

    ``means`` has values whose meaning is not their name; None: nothing that is priced apart. All others become
    ``name``, in small letters.
    """

    path: Path
    """From the answer itself."""
    name: str
    means: Mapping[str, Condition | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Sum:
    """Fields that must add up to another, where both sides are told."""

    total: Path
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Api:
    """How one API tells what a request used. Paths of ``units``, ``needed`` and ``sums`` begin at ``root``."""

    name: str
    providers: frozenset[str]
    root: Path
    known_by: Path
    """A field by which an answer of this API is known among those of its provider."""
    needed: tuple[Path, ...]
    units: Mapping[str, Unit]
    called_at: tuple[str, ...] = ()
    """How the path of a request ends that asks this API for an answer."""
    sums: tuple[Sum, ...] = ()
    output_apart: tuple[Path, ...] = ()
    """What is output besides, if ``sums`` holds with it, and is part of the output already, if it holds without."""
    served: tuple[Served, ...] = ()
    model: Path = ("model",)
    response_id: Path = ("id",)
    cost_ticks: Path | None = None
    """The bill in 10^-10 USD."""
    searches: Path | None = None
    """A list in which each ``web_search_call`` that searched is one search."""
    one_round: Path | None = None
    """A list of rounds that bill apart; of more than one, or of another model, the answer gives no sum."""


def _one(*path: str) -> Unit:
    return Unit((path,))


_TIER = Served(("service_tier",), "service_tier")

_CHAT_UNITS = {
    "input": _one("prompt_tokens"),
    "cache_read": _one("prompt_tokens_details", "cached_tokens"),
    "input_audio": _one("prompt_tokens_details", "audio_tokens"),
    "input_image": _one("prompt_tokens_details", "image_tokens"),
    "output": _one("completion_tokens"),
    "reasoning": _one("completion_tokens_details", "reasoning_tokens"),
    "output_audio": _one("completion_tokens_details", "audio_tokens"),
}
_CHAT_NEEDED = (("prompt_tokens",), ("completion_tokens",))
# The second is what was there before chats, and is answered alike.
_CHAT_AT = ("/chat/completions", "/completions")
_CHAT_SUMS = (Sum(("total_tokens",), _CHAT_NEEDED),)


def _written(details: str) -> dict[str, Unit]:
    """OpenAI keeps what is written to its cache for 30 minutes (the shorter of two prices) or for 12 hours."""
    long = (details, "cache_write_tokens_details", "ttl_12h_tokens")
    return {"cache_write_5m": Unit(((details, "cache_write_tokens"),), (long,)), "cache_write_12h": Unit((long,))}


OPENAI_CHAT = Api(
    name="openai chat completions",
    providers=frozenset({"openai"}),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=_CHAT_NEEDED,
    units=_CHAT_UNITS | _written("prompt_tokens_details"),
    called_at=_CHAT_AT,
    sums=_CHAT_SUMS,
    served=(_TIER,),
)

OPENAI_RESPONSES = Api(
    name="openai responses",
    providers=frozenset({"openai"}),
    root=("usage",),
    known_by=("input_tokens",),
    needed=(("input_tokens",), ("output_tokens",)),
    units={
        "input": _one("input_tokens"),
        "cache_read": _one("input_tokens_details", "cached_tokens"),
        "output": _one("output_tokens"),
        "reasoning": _one("output_tokens_details", "reasoning_tokens"),
        **_written("input_tokens_details"),
    },
    called_at=("/responses",),
    sums=(Sum(("total_tokens",), (("input_tokens",), ("output_tokens",))),),
    served=(_TIER,),
    searches=("output",),
)

ANTHROPIC_MESSAGES = Api(
    name="anthropic messages",
    providers=frozenset({"anthropic"}),
    root=("usage",),
    known_by=("input_tokens",),
    needed=(("input_tokens",), ("output_tokens",)),
    units={
        "input": Unit((("input_tokens",), ("cache_creation_input_tokens",), ("cache_read_input_tokens",))),
        "cache_read": _one("cache_read_input_tokens"),
        # Without the breakdown all of it was written for 5 minutes: it came with the option to write for an hour.
        "cache_write_5m": Unit((("cache_creation_input_tokens",),), (("cache_creation", "ephemeral_1h_input_tokens"),)),
        "cache_write_1h": _one("cache_creation", "ephemeral_1h_input_tokens"),
        "output": _one("output_tokens"),
        "reasoning": _one("output_tokens_details", "thinking_tokens"),
        "web_search": _one("server_tool_use", "web_search_requests"),
    },
    called_at=("/messages",),
    sums=(
        Sum(
            ("cache_creation_input_tokens",),
            (("cache_creation", "ephemeral_5m_input_tokens"), ("cache_creation", "ephemeral_1h_input_tokens")),
        ),
    ),
    served=(
        Served(("usage", "service_tier"), "service_tier", {"batch": ("processing", "batch")}),
        Served(("usage", "inference_geo"), "region", {"not_available": None}),
        Served(("usage", "speed"), "speed", {"standard": None}),
    ),
    one_round=("iterations",),
)

_ON_DEMAND = {
    "TRAFFIC_TYPE_UNSPECIFIED": None,
    "ON_DEMAND_PRIORITY": ("service_tier", "priority"),
    "ON_DEMAND_FLEX": ("service_tier", "flex"),
}

GEMINI = Api(
    name="gemini generateContent",
    providers=frozenset({"google"}),
    root=("usageMetadata",),
    known_by=("promptTokenCount",),
    needed=(("promptTokenCount",),),
    units={
        "input": Unit((("promptTokenCount",), ("toolUsePromptTokenCount",))),
        "cache_read": _one("cachedContentTokenCount"),
        # What was cached of it is counted as that.
        "input_audio": Unit(
            (
                ("promptTokensDetails", "[modality=AUDIO]", "tokenCount"),
                ("toolUsePromptTokensDetails", "[modality=AUDIO]", "tokenCount"),
            ),
            (("cacheTokensDetails", "[modality=AUDIO]", "tokenCount"),),
        ),
        "output": Unit((("candidatesTokenCount",), ("thoughtsTokenCount",))),
        "reasoning": _one("thoughtsTokenCount"),
        "output_audio": _one("candidatesTokensDetails", "[modality=AUDIO]", "tokenCount"),
        "output_image": _one("candidatesTokensDetails", "[modality=IMAGE]", "tokenCount"),
    },
    called_at=(":generateContent", ":streamGenerateContent"),
    sums=(
        Sum(
            ("totalTokenCount",),
            (
                ("promptTokenCount",),
                ("toolUsePromptTokenCount",),
                ("candidatesTokenCount",),
                ("thoughtsTokenCount",),
            ),
        ),
    ),
    served=(
        Served(("usageMetadata", "trafficType"), "service_tier", _ON_DEMAND),
        Served(("usageMetadata", "serviceTier"), "service_tier", {"unspecified": None, "UNSPECIFIED": None}),
    ),
    model=("modelVersion",),
    response_id=("responseId",),
)

XAI_CHAT = Api(
    name="xai chat completions",
    providers=frozenset({"xai"}),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=_CHAT_NEEDED,
    units=_CHAT_UNITS,
    called_at=_CHAT_AT,
    sums=_CHAT_SUMS,
    output_apart=(("completion_tokens_details", "reasoning_tokens"),),
    served=(_TIER,),
    cost_ticks=("cost_in_usd_ticks",),
)

DEEPSEEK_CHAT = Api(
    name="deepseek chat completions",
    providers=frozenset({"deepseek"}),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=_CHAT_NEEDED,
    units=_CHAT_UNITS | {"cache_read": _one("prompt_cache_hit_tokens")},
    called_at=_CHAT_AT,
    sums=(*_CHAT_SUMS, Sum(("prompt_tokens",), (("prompt_cache_hit_tokens",), ("prompt_cache_miss_tokens",)))),
)

FIREWORKS_CHAT = Api(
    name="fireworks chat completions",
    providers=frozenset({"fireworks"}),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=_CHAT_NEEDED,
    units=_CHAT_UNITS,
    called_at=_CHAT_AT,
    sums=_CHAT_SUMS,
    served=(_TIER,),
)

EMBEDDINGS = Api(
    name="openai embeddings",
    providers=frozenset({"openai", "fireworks"}),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=(("prompt_tokens",),),
    units={"input": _one("prompt_tokens"), "output": Unit(())},
    called_at=("/embeddings",),
)
"""They have no output; nothing but where they are asked for tells them from a chat whose output is missing."""

_CHAT_WRITTEN_12H = ("prompt_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens")
_LITELLM_WRITTEN = ("prompt_tokens_details", "cache_creation_token_details")
_LITELLM_WRITTEN_1H = (*_LITELLM_WRITTEN, "ephemeral_1h_input_tokens")
_LITELLM_WRITTEN_12H = (*_LITELLM_WRITTEN, "ephemeral_12h_input_tokens")

LITELLM = Api(
    name="litellm",
    providers=frozenset(),
    root=("usage",),
    known_by=("prompt_tokens",),
    needed=_CHAT_NEEDED,
    units={
        **_CHAT_UNITS,
        "cache_write_5m": Unit(
            (("prompt_tokens_details", "cache_write_tokens"),),
            (_LITELLM_WRITTEN_1H, _LITELLM_WRITTEN_12H, _CHAT_WRITTEN_12H),
        ),
        "cache_write_1h": Unit((_LITELLM_WRITTEN_1H,)),
        "cache_write_12h": Unit((_LITELLM_WRITTEN_12H, _CHAT_WRITTEN_12H)),
        "output_image": _one("completion_tokens_details", "image_tokens"),
        "web_search": _one("server_tool_use", "web_search_requests"),
    },
    sums=_CHAT_SUMS,
    served=(_TIER, *ANTHROPIC_MESSAGES.served),
    searches=("output",),
)
"""What LiteLLM makes of any provider's answer, of a stream's, too. Read where the provider's own is not at hand."""


def _spans_input(kind: str) -> Unit:
    """What was cached of it is counted as that."""
    return Unit(((f"gen_ai.usage.{kind}.input_tokens",),), ((f"gen_ai.usage.{kind}.cache_read.input_tokens",),))


OPENTELEMETRY = Api(
    name="opentelemetry gen_ai",
    providers=frozenset(),
    root=(),
    known_by=("gen_ai.usage.input_tokens",),
    needed=(("gen_ai.usage.input_tokens",), ("gen_ai.usage.output_tokens",)),
    units={
        "input": _one("gen_ai.usage.input_tokens"),
        "cache_read": _one("gen_ai.usage.cache_read.input_tokens"),
        **{f"input_{kind}": _spans_input(kind) for kind in ("audio", "image")},
        "output": _one("gen_ai.usage.output_tokens"),
        "reasoning": _one("gen_ai.usage.reasoning.output_tokens"),
        **{f"output_{kind}": _one(f"gen_ai.usage.{kind}.output_tokens") for kind in ("audio", "image")},
    },
    served=(Served(("openai.response.service_tier",), "service_tier"),),
    model=("gen_ai.response.model",),
    response_id=("gen_ai.response.id",),
)
"""What a span of a model's call has, by the conventions of now: input tokens include those that were cached. How long
what was written to a cache is kept, by which its price goes, no span tells."""

APIS = (
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    ANTHROPIC_MESSAGES,
    GEMINI,
    XAI_CHAT,
    DEEPSEEK_CHAT,
    FIREWORKS_CHAT,
)

PARTS = {
    "input": ("cache_read", "cache_write_5m", "cache_write_1h", "cache_write_12h", "input_audio", "input_image"),
    "output": ("reasoning", "output_audio", "output_image"),
}
"""Which units lie within which: none may exceed it."""


def apis_of(provider: str) -> list[Api]:
    """The APIs of a provider; none where its answers are not known."""
    return [api for api in APIS if provider in api.providers]


def api_at(provider: str, path: str) -> Api | None:
    """The API of ``provider`` that a request to ``path`` asks for an answer."""
    return next(
        (api for api in (*apis_of(provider), EMBEDDINGS) if provider in api.providers and _ends(path, api)), None
    )


def asks_for_an_answer(path: str) -> bool:
    """Whether a request to ``path`` asks any of the APIs for an answer, whoever's it is."""
    return any(_ends(path, api) for api in (*APIS, EMBEDDINGS))


def _ends(path: str, api: Api) -> bool:
    return path.rstrip("/").endswith(api.called_at)
