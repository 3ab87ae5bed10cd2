"""An entry as rows of FOCUS 1.2, one for each priced unit (focus.finops.org; docs/how-to/export.md says what is where).

Pure: from an entry, and the card that it was priced by, to cells. Numbers are text, exact. Amounts of all rows of an
entry are together the entry's, to the last digit; those of a reversal are negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, assert_never

import orjson

from services.books.entry_rows import Row, event_of
from services.domain.credits import Ratio, format_exactly, round_half_even
from services.domain.model_prices import PER_MILLION, Bill, UnpricedError
from services.domain.price_lines import CALLS, RUNS, TOKENS, Price, PriceLine, Share, as_one_line, price_by_line, shares
from services.domain.rate_card import RateCard
from services.domain.rating import Amounts
from services.domain.resolution import KeySource
from services.domain.usage import EventType, UsageEvent
from services.ledger.explanation import utc

Billed = Literal["prepaid", "charged"]
"""What BilledCost says: nothing, where credits were paid before, or what is charged."""

_NUMBERS = """
    BilledCost ContractedCost EffectiveCost ListCost ConsumedQuantity ContractedUnitPrice ListUnitPrice
    PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost PricingCurrencyListUnitPrice PricingQuantity
    x_SavedCost x_Revision x_RegistrySeq x_Position
"""
NUMBERS = frozenset(_NUMBERS.split())
"""The columns of numbers; what stands in any other is text, a time or a JSON object."""
_COLUMNS = """
    BilledCost BillingAccountId BillingAccountName BillingAccountType BillingCurrency BillingPeriodEnd
    BillingPeriodStart ChargeCategory ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd
    ChargePeriodStart CommitmentDiscountStatus ConsumedQuantity ConsumedUnit ContractedCost ContractedUnitPrice
    EffectiveCost HostProviderName InvoiceId InvoiceIssuerName ListCost ListUnitPrice PricingCategory
    PricingCurrency PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost PricingCurrencyListUnitPrice
    PricingQuantity PricingUnit ProviderName PublisherName ResourceId ResourceName ResourceType ServiceCategory
    ServiceName ServiceProviderName ServiceSubcategory SkuId SkuMeter SkuPriceDetails SkuPriceId SubAccountId
    SubAccountName SubAccountType Tags
    x_EntryId x_EntryKind x_Revision x_KeySource x_ByokScope x_CredentialId x_SavedCost x_RateCard x_RegistrySeq
    x_Model
"""
COLUMNS = tuple(_COLUMNS.split())
"""In the order of the specification's pages; the last ones are our own.

Always empty are those of what we have not (names, invoices, discounts for commitments) and others' rules refer to.
"""
POSITION = "x_Position"
"""The column that comes on top where rows have positions."""
_PLATFORMS = ("HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceProviderName")
_HOUR = timedelta(hours=1)
# So many decimals has a price of one unit; more than any card's price has, after division by USD per credit.
_PRICE_DECIMALS = 18
_REQUESTS = "web_search"
_NOTHING = "0.0"

Cells = dict[str, Any]


class Terms(NamedTuple):
    """What a whole file is written by."""

    platform: str
    """Who sells: the name of provider, publisher and issuer of invoices."""
    billed: Billed = "prepaid"


def focus_rows(entry: Row, card: RateCard, terms: Terms) -> Iterator[Cells]:
    """The rows of one entry: a mapping with the columns of the view and of the table that ``event_of`` reads.

    ``card`` is the one that the entry names. What it does not explain is one row.
    """
    event = event_of(entry)
    sign = -1 if entry["kind"] == "reversal" else 1
    amounts = Amounts(sign * entry["list_mc"], sign * entry["charged_mc"])
    price = _price(event, entry, card, amounts)
    common = _of_entry(entry, event, terms)
    for line, share in zip(price.lines, shares(price.lines, amounts), strict=True):
        sku = _sku(event, entry, card, line, price.bill)
        yield common | sku | _quantities(line, sign) | _prices(line, card) | _costs(share, card, sign, terms.billed)


def _price(event: UsageEvent, entry: Row, card: RateCard, amounts: Amounts) -> Price:
    try:
        price = price_by_line(event, card, entry["priced_model"], KeySource(entry["key_source"]))
    except UnpricedError:
        return as_one_line(event, amounts)
    return price if price.lines else as_one_line(event, amounts)


def _of_entry(entry: Row, event: UsageEvent, terms: Terms) -> Cells:
    return {
        "BillingAccountId": event.org_id,
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        **_periods(event.occurred_at),
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        **dict.fromkeys(_PLATFORMS, terms.platform),
        "PricingCategory": "Standard",
        "PricingCurrency": "Credits",
        **_resource(event),
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": _service(event.type),
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": event.team_id,
        "SubAccountName": event.team_id,
        "SubAccountType": None if event.team_id is None else "Team",
        "Tags": _json({"user_id": event.user_id, "node": event.node, "tool": event.tool}),
        "x_EntryId": str(entry["entry_id"]),
        "x_EntryKind": entry["kind"],
        "x_Revision": entry["revision"],
        "x_KeySource": entry["key_source"],
        "x_ByokScope": entry["byok_scope"],
        "x_CredentialId": entry["credential_id"],
        "x_RateCard": entry["rate_card"],
        "x_RegistrySeq": entry["registry_seq"],
        "x_Model": event.model,
        POSITION: entry.get("position"),
    }


def _periods(at: datetime) -> Cells:
    hour = at.replace(minute=0, second=0, microsecond=0)
    month = hour.replace(day=1, hour=0)
    return {
        "BillingPeriodStart": utc(month),
        "BillingPeriodEnd": utc((month + timedelta(days=31)).replace(day=1)),
        "ChargePeriodStart": utc(hour),
        "ChargePeriodEnd": utc(hour + _HOUR),
    }


def _resource(event: UsageEvent) -> Cells:
    if event.agent_id is not None:
        return {"ResourceId": event.agent_id, "ResourceType": "Agent"}
    if event.workflow_id is not None:
        return {"ResourceId": event.workflow_id, "ResourceType": "Workflow"}
    return {}


def _service(event_type: EventType) -> str:
    match event_type:
        case EventType.NODE_CALL | EventType.WORKFLOW_RUN:
            return "Workflows"
        case EventType.TOKEN_USAGE | EventType.TOKEN_USAGE_V2 | EventType.TOOL_CALL:
            return "Agents"
        case _:
            assert_never(event_type)


def _sku(event: UsageEvent, entry: Row, card: RateCard, line: PriceLine, bill: Bill | None) -> Cells:
    if event.provider is None:
        product = "workflows" if event.tool is None else f"tools/{event.tool}"
    else:
        product = f"{event.provider}/{entry['priced_model'] or event.model}"
    sku, meter, details = f"{product}/{line.unit}", _meter(event, line), _price_details(entry, card, bill)
    free = [] if line.list_mc.numerator else ["free"]
    special = [f"{name.removeprefix('x_')}={value}" for name, value in details.items() if name != "x_RateCard"]
    return {
        "ChargeDescription": f"{meter} of {product}",
        "SkuId": sku,
        "SkuMeter": meter,
        "SkuPriceDetails": _json(details),
        "SkuPriceId": "/".join([card.card, sku, *special, *free]),
    }


def _meter(event: UsageEvent, line: PriceLine) -> str:
    if line.unit == CALLS:
        return "Node Calls" if event.tool is None else "Tool Calls"
    if line.unit in (RUNS, TOKENS):
        return "Workflow Runs" if line.unit == RUNS else "Tokens"
    return f"{line.unit.replace('_', ' ').title()} {_unit(line)}"


def _price_details(entry: Row, card: RateCard, bill: Bill | None) -> Cells:
    """What the price of a line depends on; a property for each condition that is part of it."""
    details = {"x_RateCard": card.card, "x_Tier": entry["tier"]}
    if bill is not None:
        details["x_AboveInputTokens"] = None if bill.band is None else bill.band.above_input_tokens
        details["x_WindowUtc"] = None if bill.window is None else ",".join(bill.window.spans)
        when = [*([] if bill.variant is None else [bill.variant.when]), *(uplift.when for uplift in bill.uplifts)]
        details |= {f"x_{_pascal(name)}": value for each in when for name, value in each.items()}
    return {name: value for name, value in details.items() if value is not None}


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _unit(line: PriceLine) -> str:
    """The noun that FOCUS has for what is counted, in the plural."""
    if line.per == PER_MILLION:
        return "Tokens"
    return {CALLS: "Calls", RUNS: "Runs", _REQUESTS: "Requests"}.get(line.unit, "Units")


def _quantities(line: PriceLine, sign: int) -> Cells:
    unit = _unit(line)
    return {
        "ConsumedQuantity": _decimal(Ratio(sign * line.quantity, 1)),
        "ConsumedUnit": unit,
        "PricingQuantity": _decimal(Ratio(sign * line.quantity, line.per)),
        "PricingUnit": unit if line.per == 1 else f"{line.per} {unit}",
    }


def _prices(line: PriceLine, card: RateCard) -> Cells:
    # mc × micro-USD are 10^-12 USD.
    in_credits, in_usd = Ratio(1, 10**6), Ratio(card.usd_micros_per_credit, 10**12)
    return {
        "ListUnitPrice": _each(line.list_mc, line, in_usd),
        "ContractedUnitPrice": _each(line.charged_mc, line, in_usd),
        "PricingCurrencyListUnitPrice": _each(line.list_mc, line, in_credits),
        "PricingCurrencyContractedUnitPrice": _each(line.charged_mc, line, in_credits),
    }


def _each(whole_mc: Ratio, line: PriceLine, times: Ratio) -> str:
    if line.quantity == 0:
        return _NOTHING
    numerator = whole_mc.numerator * line.per * times.numerator
    return _decimal(Ratio(numerator, whole_mc.denominator * line.quantity * times.denominator))


def _costs(share: Share, card: RateCard, sign: int, billed: Billed) -> Cells:
    def usd(mc: int) -> str:
        return _pointed(format_exactly(sign * mc * card.usd_micros_per_credit, decimals=12))

    charged = usd(share.charged_mc)
    return {
        "BilledCost": _NOTHING if billed == "prepaid" else charged,
        "EffectiveCost": charged,
        "ContractedCost": charged,
        "ListCost": usd(share.list_mc),
        "PricingCurrencyEffectiveCost": _pointed(format_exactly(sign * share.charged_mc, decimals=6)),
        "x_SavedCost": usd(share.saved_mc),
    }


def _decimal(ratio: Ratio) -> str:
    digits = round_half_even(ratio.numerator * 10**_PRICE_DECIMALS, ratio.denominator)
    return _pointed(format_exactly(digits, decimals=_PRICE_DECIMALS))


def _pointed(number: str) -> str:
    """With a point in any case: those who guess a column's type from its values take it for a decimal."""
    return number if "." in number else f"{number}.0"


def _json(values: Cells) -> str:
    said = {name: value for name, value in values.items() if value is not None}
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
