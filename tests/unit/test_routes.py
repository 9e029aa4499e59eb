"""`http.route` from paths: what a person would write, and never too many."""

from __future__ import annotations

import random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.errors import ConfigError
from otel_ebpf.protocols import routes as module
from otel_ebpf.protocols.routes import OVERFLOW, ROUTES, SIBLINGS, Routes


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/users", "/users"),
        ("/users/", "/users/"),
        ("/users/17", "/users/{id}"),
        ("/users/17/orders/42/items", "/users/{id}/orders/{id}/items"),
        ("/a/550e8400-e29b-41d4-a716-446655440000", "/a/{id}"),
        ("/c/507f1f77bcf86cd799439011/x", "/c/{id}/x"),
        ("/c/D41D8CD98F00B204E9800998ECF8427E", "/c/{id}"),
        ("/i/dQw4w9WgXcQ123", "/i/{id}"),
        ("/k/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/k/{id}"),
        ("/o/order-12345", "/o/{id}"),
        ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6", "/t/{id}"),
        ("/d/2024-05-01", "/d/{date}"),
        ("/d/2024-05-01T12:30:00Z/x", "/d/{date}/x"),
        ("/d/20240501", "/d/{id}"),
        ("/geo/48.1,11.5", "/geo/{id}"),
        ("/u/bob@example.com", "/u/{email}"),
        ("/u/bob%40example.com", "/u/{email}"),
        ("/api/v2/oauth2/token", "/api/v2/oauth2/token"),
        ("/createOAuth2Token", "/createOAuth2Token"),
        ("/deadbeef", "/deadbeef"),
        ("/latin-1/utf-8", "/latin-1/utf-8"),
        ("/cart;jsessionid=77/items;page=2;size=9/17;x", "/cart/items/{id}"),
        ("//x//", "//x//"),
        ("/" + "w" * 65, "/{id}"),
        ("/" + "/".join("abcdefghijklmnop"), "/a/b/c/d/e/f/g/h/i/j/k/l/*"),
        ("/.well-known/acme", "/.well-known/acme"),
        ("no-path", ""),
        ("", ""),
    ],
)
def test_a_path_has_the_route_that_a_person_would_write(path: str, route: str) -> None:
    assert Routes().route(path) == route


def test_patterns_of_the_user_win() -> None:
    routes = Routes(("/shop/{item}", "/shop/cart", "/v/42/{x}", "/files/*", "/users/{id}/{what}"))
    assert routes.route("/shop/blue-socks") == "/shop/{item}"
    assert routes.route("/shop/4711") == "/shop/{item}"
    assert routes.route("/v/42/a") == "/v/42/{x}"
    assert routes.route("/v/43/a") == "/v/{id}/a"
    assert routes.route("/files/a/b/c") == "/files/*"
    assert routes.route("/users/17/orders") == "/users/{id}/{what}"
    assert routes.route("/shop/") == "/shop/"


@pytest.mark.parametrize("pattern", ["shop", "/files/{name}.pdf", "/a/*/b", "", "/{a", "/a{b}"])
def test_a_pattern_that_is_none_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match="routes"):
        Routes((pattern,))


def test_a_place_with_too_many_words_collapses() -> None:
    routes = Routes()
    words = ["".join(random.Random(i).choices("abcdefghijkl", k=8)) for i in range(SIBLINGS + 50)]
    learned = [routes.route(f"/people/{word}/photo") for word in words]
    assert learned[0] == f"/people/{words[0]}/photo"
    assert set(learned[SIBLINGS:]) == {"/people/{name}/photo"}
    assert routes.route(f"/people/{words[0]}/photo") == "/people/{name}/photo"
    assert routes.route("/people/list") == "/people/{name}"
    assert routes.collapses == 1


def test_words_of_patterns_stay_where_a_place_collapses() -> None:
    routes = Routes(("/people/me",))
    for i in range(SIBLINGS + 50):
        routes.route("/people/" + "".join(random.Random(i).choices("abcdefghijkl", k=8)))
    assert routes.route("/people/me") == "/people/me"
    assert routes.route("/people/you") == "/people/{name}"


def test_a_service_that_was_forgotten_is_learned_anew() -> None:
    routes = Routes()
    for i in range(SIBLINGS + 5):
        routes.route("/people/" + "".join(random.Random(i).choices("abcdefghijkl", k=8)), service=1)
    with patch.object(module, "SERVICES", 1):
        routes.route("/other", service=2)
    assert routes.route("/people/nobody-yet", service=1) == "/people/nobody-yet"


def test_a_path_that_was_not_found_teaches_nothing_but_knows_what_was_learned() -> None:
    routes = Routes()
    assert routes.route("/wp-admin/setup.php", teaches=False) == ""
    assert routes.route("/users/1") == "/users/{id}"
    assert routes.route("/users/2", teaches=False) == "/users/{id}"
    for i in range(10 * SIBLINGS):
        routes.route(f"/scan{i % 7}x{'y' * (i % 60)}", teaches=False)
    assert routes.route("/shop") == "/shop"
    assert routes.collapses == 0


def test_services_do_not_share_routes() -> None:
    routes = Routes()
    for i in range(2 * SIBLINGS):
        routes.route("/" + "".join(random.Random(i).choices("abcdefghijkl", k=8)), service=1)
    assert routes.route("/cart", service=1) == "/{name}"
    assert routes.route("/cart", service=2) == "/cart"


def test_hostile_paths_do_not_make_more_routes_than_there_may_be() -> None:
    routes = Routes()
    hostile = random.Random(1)
    for _ in range(3):
        paths = [
            "".join("/" + "".join(hostile.choices("ghijk", k=3)) for _ in range(hostile.randint(1, 6)))
            for _ in range(3000)
        ]
        many(routes, paths)
    assert len(routes.names) <= ROUTES + 1
    assert routes.overflows > 0
    assert OVERFLOW in routes.names


def many(routes: Routes, paths: list[str], service: int = 0) -> list[str]:
    raw = [path.encode("utf-8", "surrogatepass") for path in paths]
    flat = np.frombuffer(b"".join(raw) + bytes(8), np.uint8)
    length = np.array([len(path) for path in raw], np.intp)
    found = routes.find(
        flat, np.cumsum(length) - length, length, np.full(len(raw), service, np.uint64), np.ones(len(raw), np.bool_)
    )
    return [routes.names[i] for i in found.tolist()]


PATHS = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["users", "17", "v1", "2024-05-01", "a@b.c", "", "x" * 70, "0xff", "AbC123dEf4", "é", "%20"]
            ),
            st.text(max_size=12).map(lambda t: t.replace("/", "")),
        ),
        min_size=1,
        max_size=14,
    ).map(lambda parts: "/" + "/".join(parts)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=100)
@given(PATHS)
def test_a_batch_of_paths_has_the_routes_of_each_by_itself(paths: list[str]) -> None:
    alone = Routes()
    assert many(Routes(), paths) == [alone.route(path) for path in paths]


@settings(max_examples=30)
@given(PATHS)
def test_routes_do_not_depend_on_the_seed_of_the_hashes_or_on_who_came_with_whom(paths: list[str]) -> None:
    first = Routes()
    assert many(first, paths) == many(Routes(), paths)
    assert many(first, paths[::-1]) == many(first, paths)[::-1]


def test_words_of_paths_that_a_pattern_names_are_bounded() -> None:
    routes = Routes(("/files/*",))
    names = {routes.route(f"/files/a{i}/b{j}") for i in range(50) for j in range(50)}
    assert names == {"/files/*"}
    with patch.object(module, "WORDS", 3000):
        names = {routes.route(f"/files/{w}a/{x}b/c{y}") for w in "pqrst" for x in "ghijk" for y in range(30)}
    assert names == {"/files/*"}
    assert sum(map(len, routes._services[0].children.values())) == routes._services[0].words == 3000
