"""What the configuration of the proxy names: its callback, and who its keys belong to."""

from byok_sdk import Meter
from byok_sdk.hooks.litellm import ByokLogger
from litellm.proxy._types import UserAPIKeyAuth

logger = ByokLogger(Meter.from_env())


async def authenticated(request: object, api_key: str) -> UserAPIKeyAuth:
    """Keys of an organization, of which one says itself whose it is."""
    if api_key == "sk-of-a-person":
        return UserAPIKeyAuth(api_key=api_key, org_id="acme", team_id="t1", user_id="u1")
    if api_key == "sk-of-a-service":
        return UserAPIKeyAuth(api_key=api_key, metadata={"byok_org": "globex", "byok_agent": "billing"})
    return UserAPIKeyAuth(api_key=api_key)
