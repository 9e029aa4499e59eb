"""What is in stock, and what is reserved for orders."""

from __future__ import annotations

import os
from typing import Any, cast

from otel_ebpf.demo.services.database import Database
from otel_ebpf.demo.services.web import Failure, Json, Request, serve

_database = Database(os.environ["DATABASE_URL"])


def stock(request: Request) -> Json:
    """How many of one product there are."""
    rows = _database.rows("SELECT units FROM stock WHERE product_id = %s", (int(request.parts[0]),))
    if not rows:
        raise Failure(404, f"no product {request.parts[0]}")
    return cast("Json", rows[0])


def similar(request: Request) -> Json:
    """Products of the same category that are in stock."""
    rows = _database.rows(
        "SELECT p.id, p.name FROM products p JOIN stock s ON s.product_id = p.id "
        "WHERE p.category = (SELECT category FROM products WHERE id = %s) AND p.id <> %s AND s.units > 0 "
        "ORDER BY s.units DESC LIMIT 8",
        (int(request.parts[0]), int(request.parts[0])),
    )
    return cast("Json", rows)


def reserve(request: Request) -> Json:
    """Take an order's products out of the stock; what runs out is ordered anew."""
    lines = cast("list[dict[str, Any]]", request.body.get("lines", []))
    with _database.connection() as connection, connection.transaction():
        for line in sorted(
            lines, key=lambda line: int(line["id"])
        ):  # one order for all, so that none waits for another
            connection.execute(
                "UPDATE stock SET units = CASE WHEN units > %s THEN units - %s ELSE 500 END WHERE product_id = %s",
                (line["quantity"], line["quantity"], line["id"]),
            )
    return {"reserved": len(lines)}


if __name__ == "__main__":
    serve(
        {
            ("GET", r"/stock/(\d{1,9})"): stock,
            ("GET", r"/similar/(\d{1,9})"): similar,
            ("POST", "/reservations"): reserve,
        },
        int(os.environ["PORT"]),
    )
