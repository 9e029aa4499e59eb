"""Reports for the back office: the shop's slow endpoint."""

from __future__ import annotations

import os
from typing import cast

from otel_ebpf.demo.services.database import Database
from otel_ebpf.demo.services.web import Json, Request, serve

_database = Database(os.environ["DATABASE_URL"])


def sales(request: Request) -> Json:
    """Sales by category. The database takes its time: a sleep stands for the index that nobody has made yet."""
    rows = _database.rows(
        "SELECT p.category, sum(i.quantity)::bigint AS units, sum(i.quantity * p.price_cents)::bigint AS cents "
        "FROM order_items i JOIN products p ON p.id = i.product_id, pg_sleep(0.6 + random() * 0.6) "
        "GROUP BY p.category ORDER BY cents DESC"
    )
    return cast("Json", rows)


def orders(request: Request) -> Json:
    """How many orders are in which state."""
    return cast("Json", _database.rows("SELECT state, count(*) AS orders FROM orders GROUP BY state"))


if __name__ == "__main__":
    serve({("GET", "/reports/sales"): sales, ("GET", "/reports/orders"): orders}, int(os.environ["PORT"]))
