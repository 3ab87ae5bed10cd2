"""What one request used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["final", "partial"]


@dataclass(frozen=True)
class Usage:
    """What one request used that a provider answered, as docs/contract.md, section 3 has it."""

    model: str
    """As the provider reported it."""
    units: Mapping[str, int]
    """``input`` and ``output`` are all of it; ``cache_read``, ``reasoning`` and so on lie within them."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """What was served, where that is not plain: ``{"service_tier": "flex"}``."""
    status: Status = "final"
    response_id: str | None = None
    cost_usd: str | None = None
    """What the provider says it costs: evidence, never a price."""

    def data(self) -> dict[str, Any]:
        """The fields of the event that it fills. A unit of which there is none counts as absent, so it is left out."""
        counted = {unit: count for unit, count in self.units.items() if count or unit in ("input", "output")}
        return {
            "model": self.model,
            "usage": counted,
            "conditions": dict(self.conditions) or None,
            "usage_status": None if self.status == "final" else self.status,
            "provider_request_id": self.response_id,
            "provider_cost_usd": self.cost_usd,
        }
