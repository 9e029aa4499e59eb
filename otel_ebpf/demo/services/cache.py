"""Redis as the shop's services use it."""

from __future__ import annotations

import redis


def connect(url: str) -> redis.Redis:
    """A client of the server at a URL.

    It does not introduce itself (CLIENT SETINFO, CLIENT MAINT_NOTIFICATIONS): servers before 7.2 answer these with
    errors, and the shop's map is to show trouble only where there is some.
    """
    return redis.Redis.from_url(url, decode_responses=True, protocol=2, driver_info=None)
