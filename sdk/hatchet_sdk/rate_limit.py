"""The module from which Hatchet's programs import the types for a step's use of rate limits."""

from hatchet_sdk._client.rate_limits import RateLimit, RateLimitDuration

__all__ = ["RateLimit", "RateLimitDuration"]
