"""The matrix counts right: what a run's spans say against what was asked."""

from __future__ import annotations

from dataclasses import replace

from tests.fidelity.score import Score, score, token_of
from tests.fidelity.site import BACKEND, LOAD, Hop
from tests.spans import SeenSpan

MARK = "3f9a"
ONE = f"id{MARK}m1z"
HOPS = {
    BACKEND: Hop(BACKEND, None, "app", judged=False, pids={30}),
    "app": Hop("app", None, LOAD, judged=True, pids={20, 21}),
    LOAD: Hop(LOAD, None, "", judged=False, pids={10}),
}
PIDS = {LOAD: 10, "app": 20, BACKEND: 30}


def span(hop: str, kind: str, token: str, identity: str, parent: str = "") -> SeenSpan:
    path = f"/r/{token}?k=1" if "/" not in token else f"/b/{token}"
    return SeenSpan(
        "GET", kind, "trace", identity, parent, 0, 1, "unset", {"url.path": path}, {"process.pid": PIDS[hop]}
    )


WHOLE = [
    span(LOAD, "client", ONE, "1"),
    span("app", "server", ONE, "2", "1"),
    span("app", "client", f"{ONE}/0", "3", "2"),
    span(BACKEND, "server", f"{ONE}/0", "4", "3"),
]


def scored(spans: list[SeenSpan]) -> dict[str, Score]:
    return score(spans, HOPS, [(ONE, 1)], MARK)


def test_a_whole_trace_is_right_in_everything() -> None:
    accounts = scored(WHOLE)
    app = accounts["app"]
    assert (app.right, app.clients, app.clients_expected, app.servers, app.joins_right) == (1, 1, 1, 1, 1)
    assert accounts[BACKEND].joins_right == 1
    assert not any(one.wrong or one.joins_wrong or one.duplicates or one.missing for one in accounts.values())


def test_a_parent_of_another_request_is_wrong_and_told() -> None:
    other = span("app", "server", f"id{MARK}m2z", "5")
    app = scored([*WHOLE[:2], replace(WHOLE[2], parent="5"), other])["app"]
    assert (app.right, app.wrong, app.missing) == (0, 1, 0)
    assert f"id{MARK}m2z" in app.examples[0]


def test_a_parent_that_was_not_exported_is_wrong() -> None:
    app = scored([WHOLE[0], WHOLE[1], replace(WHOLE[2], parent="77")])["app"]
    assert (app.right, app.wrong) == (0, 1)


def test_a_parent_in_another_trace_is_wrong() -> None:
    assert scored([WHOLE[0], WHOLE[1], replace(WHOLE[2], trace="other")])["app"].wrong == 1


def test_a_link_to_the_right_request_counts_as_a_link_only() -> None:
    app = scored([WHOLE[0], WHOLE[1], replace(WHOLE[2], parent="", links=("2",))])["app"]
    assert (app.right, app.linked, app.missing, app.wrong) == (0, 1, 0, 0)


def test_a_call_without_parent_or_without_span_is_missing() -> None:
    assert scored([*WHOLE[:2], replace(WHOLE[2], parent="")])["app"].missing == 1
    assert scored(WHOLE[:2])["app"].missing == 1


def test_what_a_proxy_passes_on_is_below_the_request_with_the_same_token() -> None:
    app = scored([*WHOLE[:2], span("app", "client", ONE, "3", "2")])["app"]
    assert (app.right, app.wrong) == (1, 0)


def test_the_same_end_told_twice_is_a_duplicate() -> None:
    assert scored([*WHOLE, replace(WHOLE[2], id="9")])["app"].duplicates == 1


def test_a_request_below_what_did_not_call_it_is_a_wrong_join() -> None:
    accounts = scored([WHOLE[0], WHOLE[1], WHOLE[2], replace(WHOLE[3], parent="1")])
    assert (accounts[BACKEND].joins_right, accounts[BACKEND].joins_wrong) == (0, 1)


def test_a_parent_of_what_the_load_asks_is_wrong() -> None:
    assert scored([replace(WHOLE[0], parent="4"), *WHOLE[1:]])[LOAD].wrong == 1


def test_requests_of_the_time_before_count_only_where_they_are_wrong() -> None:
    warm = [replace(one, attributes={"url.path": str(one["url.path"]).replace("m1z", "w1z")}) for one in WHOLE]
    app = score(warm, HOPS, [], MARK)["app"]
    assert (app.right, app.clients_expected, app.wrong) == (0, 0, 0)
    app = score([*warm[:2], replace(warm[2], parent="1")], HOPS, [], MARK)["app"]
    assert app.wrong == 1


def test_a_token_is_found_in_urls_sql_and_keys() -> None:
    for name, value in (
        ("url.full", f"http://127.0.0.1:80/b/{ONE}/0"),
        ("db.query.text", f"SELECT 1 AS {ONE}_0"),
        ("db.operation.parameter.0", f"{ONE}/0"),
    ):
        assert token_of(replace(WHOLE[0], attributes={name: value})) == f"{ONE}/0"
