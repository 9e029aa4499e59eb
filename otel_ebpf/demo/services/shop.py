"""The shop itself: pages for customers, made of what PostgreSQL, Redis and the other services know."""

from __future__ import annotations

import json
import os
from typing import Any, cast

from otel_ebpf.demo.services.cache import connect
from otel_ebpf.demo.services.database import Database
from otel_ebpf.demo.services.web import Failure, Json, Peer, Request, serve

_HOME_S, _CART_S = 20, 600
_database = Database(os.environ["DATABASE_URL"])
_cache = connect(os.environ["REDIS_URL"])
_inventory = Peer(os.environ["INVENTORY_URL"])
_recommendations = Peer(os.environ["RECOMMENDATIONS_URL"])
_payment = Peer(os.environ["PAYMENT_URL"])


def home(request: Request) -> Json:
    """What is popular; asked of the database when the cache has forgotten it."""
    if cached := cast("str | None", _cache.get("page:home")):
        return cast("Json", json.loads(cached))
    popular = _database.rows(
        "SELECT p.id, p.name, p.price_cents, count(*) AS sold "
        "FROM order_items i JOIN products p ON p.id = i.product_id "
        "GROUP BY p.id ORDER BY sold DESC LIMIT 12"
    )
    page: Json = {"popular": cast("Json", popular)}
    _cache.set("page:home", json.dumps(page), ex=_HOME_S)
    return page


def product(request: Request) -> Json:
    """One product, what is in stock, and what goes with it."""
    number = int(request.parts[0])
    found = _database.rows("SELECT id, name, category, price_cents FROM products WHERE id = %s", (number,))
    if not found:
        raise Failure(404, f"no product {number}")
    _cache.incr(f"views:{number}")
    stock = _inventory.get(f"/stock/{number}")
    try:
        related = _recommendations.get(f"/recommendations/{number}")
    except Failure:
        related = []  # the page does without
    return {**found[0], "stock": stock, "related": related}


def search(request: Request) -> Json:
    """Products by a part of their name."""
    wanted = request.query.get("q", "")
    if len(wanted) < 2:
        raise Failure(400, "q: at least two letters")
    rows = _database.rows(
        "SELECT id, name, price_cents FROM products WHERE name ILIKE '%%' || %s || '%%' ORDER BY name LIMIT 20",
        (wanted,),
    )
    return cast("Json", rows)


def add_to_cart(request: Request) -> Json:
    """Put a product into the session's cart."""
    number, quantity = request.number("product", 0), request.number("quantity", 1)
    with _cache.pipeline(transaction=False) as pipeline:
        pipeline.hincrby(_cart_key(request), str(number), quantity)
        pipeline.expire(_cart_key(request), _CART_S)
        pipeline.execute()
    return {"added": number}


def cart(request: Request) -> Json:
    """What is in the session's cart, with prices."""
    return {"lines": cast("Json", _lines(request))}


def checkout(request: Request) -> Json:
    """Order what is in the cart: reserve, pay, confirm. A payment that fails leaves the cart full."""
    lines = _lines(request)
    if not lines:
        raise Failure(409, "the cart is empty")
    with _database.connection() as connection, connection.transaction():
        row = connection.execute("INSERT INTO orders (session) VALUES (%s) RETURNING id", (request.session,)).fetchone()
        order = cast("dict[str, Any]", row)["id"]
        connection.cursor().executemany(
            "INSERT INTO order_items (order_id, product_id, quantity) VALUES (%s, %s, %s)",
            [(order, line["id"], line["quantity"]) for line in lines],
        )
    _inventory.post("/reservations", {"order": order, "lines": cast("Json", lines)})
    amount = sum(line["price_cents"] * line["quantity"] for line in lines)
    try:
        _payment.post("/payments", {"order": order, "amount_cents": amount})
    except Failure as failure:
        _database.rows("UPDATE orders SET state = 'payment failed' WHERE id = %s RETURNING id", (order,))
        raise Failure(502, f"payment: {failure}") from failure
    _database.rows("UPDATE orders SET state = 'paid' WHERE id = %s RETURNING id", (order,))
    _cache.delete(_cart_key(request))
    return {"order": order, "amount_cents": amount}


def _cart_key(request: Request) -> str:
    return f"cart:{request.session or 'nobody'}"


def _lines(request: Request) -> list[dict[str, Any]]:
    quantities = cast("dict[str, str]", _cache.hgetall(_cart_key(request)))
    if not quantities:
        return []
    rows = _database.rows(
        "SELECT id, name, price_cents FROM products WHERE id = ANY(%s)", ([int(number) for number in quantities],)
    )
    return [{**row, "quantity": int(quantities[str(row["id"])])} for row in rows]


if __name__ == "__main__":
    serve(
        {
            ("GET", "/"): home,
            ("GET", r"/products/(\d{1,9})"): product,
            ("GET", "/search"): search,
            ("POST", "/cart/items"): add_to_cart,
            ("GET", "/cart"): cart,
            ("POST", "/checkout"): checkout,
        },
        int(os.environ["PORT"]),
    )
