"""Payments: some 5 % fail, as they do at the bank; an order is charged once only."""

from __future__ import annotations

import os
import random
import time

from otel_ebpf.demo.services.cache import connect
from otel_ebpf.demo.services.web import Failure, Json, Request, serve

FAILING = 0.05
_DAY_S = 86400
_redis = connect(os.environ["REDIS_URL"])


def pay(request: Request) -> Json:
    """Charge an order."""
    order = request.number("order", 0)
    if not _redis.set(f"payment:{order}", "pending", nx=True, ex=_DAY_S):
        raise Failure(409, f"order {order} is being paid already")
    time.sleep(
        random.lognormvariate(-4.5, 0.6)
    )  # the bank's own time: mostly about 11 ms, sometimes several times that
    if random.random() < FAILING:
        _redis.set(f"payment:{order}", "failed", ex=_DAY_S)
        raise Failure(500, "the bank's connection was reset")
    _redis.set(f"payment:{order}", "charged", ex=_DAY_S)
    return {"order": order, "state": "charged"}


if __name__ == "__main__":
    serve({("POST", "/payments"): pay}, int(os.environ["PORT"]))
