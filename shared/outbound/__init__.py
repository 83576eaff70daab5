"""The way out: the one HTTP client for every address that a user gave."""

from shared.outbound.client import OutboundHttp, OutboundResponse, OutboundSettings, open_outbound
from shared.outbound.retry_after import find_retry_after

__all__ = ["OutboundHttp", "OutboundResponse", "OutboundSettings", "find_retry_after", "open_outbound"]
