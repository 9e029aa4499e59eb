"""The filter of `otel-ebpf tap`: what each term lets through, and what a user is told about a mistake."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatchcase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.control.filter import OPERATORS, Filter, glob, parse
from otel_ebpf.errors import ConfigError
from otel_ebpf.model import Kind, Spans
from tests.unit.control_batch import CART, MS, REDIS, batch, exchange, tables, typical

SERVED, FAILED, CACHED, QUERIED, RESOLVED = range(5)
ALL = [SERVED, FAILED, CACHED, QUERIED, RESOLVED]
PROTOCOLS = ("http", "redis", "postgresql", "mysql", "dns")


def through(text: str, spans: Spans | None = None) -> list[int]:
    """Rows of `typical` that the filter lets through."""
    mask = Filter.parse(text, PROTOCOLS).mask(typical() if spans is None else spans, tables())
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", ALL),
        ("service=shop", [SERVED, CACHED, QUERIED, RESOLVED]),
        ("service!=shop", [FAILED]),
        ("service=SHOP", [SERVED, CACHED, QUERIED, RESOLVED]),
        ("service=b*", [FAILED]),
        ("service=hop", []),
        ("service~hop", [SERVED, CACHED, QUERIED, RESOLVED]),
        ("service!~hop", [FAILED]),
        ("protocol=http", [SERVED, FAILED]),
        ("protocol=redis,dns", [CACHED, RESOLVED]),
        ("protocol!=redis,dns", [SERVED, FAILED, QUERIED]),
        ("protocol=*sql", [QUERIED]),
        ("kind=server", [SERVED]),
        ("kind!=server", [FAILED, CACHED, QUERIED, RESOLVED]),
        ("error=true", [FAILED, RESOLVED]),
        ("error=false", [SERVED, CACHED, QUERIED]),
        ("status=503", [FAILED]),
        ("status==503", [FAILED]),
        ("status=5*", [FAILED]),
        ("status>=500", [FAILED]),
        ("status<500", [SERVED]),
        ("status!=200", [FAILED, CACHED, QUERIED, RESOLVED]),
        ("duration>100ms", [FAILED]),
        ("duration>=1ms", ALL),
        ("duration<1ms", []),
        ("duration<=1000µs", [SERVED, CACHED, QUERIED, RESOLVED]),
        ('name~"GET /cart"', [SERVED]),
        ("name=GET", [FAILED, CACHED]),
        ("name='SELECT users'", [QUERIED]),
        ("name~get", [SERVED, FAILED, CACHED]),
        ("text~cart", [SERVED, FAILED, CACHED]),
        ("text='/cart/? page=*'", [SERVED]),
        ("text!~cart", [QUERIED, RESOLVED]),
        ("peer=10.0.0.*", [CACHED]),
        ("peer=10.0.0.5:6379", [CACHED]),
        ("peer=10.0.0.5:80", []),
        ("peer=10.0.0.0/8", [SERVED, FAILED, CACHED]),
        ("peer!=10.0.0.0/8", [QUERIED, RESOLVED]),
        ("peer=cart.example", [FAILED]),
        ("peer=cart.example:80", [FAILED]),
        ("peer=web.example", [FAILED]),
        ("peer=::1", [RESOLVED]),
        ("peer=[::1]:53", [RESOLVED]),
        ("peer=::/0", [RESOLVED]),
        ("peer=:53", [RESOLVED]),
        ("peer=/run/pg.sock", [QUERIED]),
        ("peer~pg", [QUERIED]),
        ("service=shop protocol=redis kind=client", [CACHED]),
        ("service=shop and protocol=redis && kind=client", [CACHED]),
        ("  service = shop   kind = server ", [SERVED]),
    ],
)
def test_terms(text: str, rows: list[int]) -> None:
    assert through(text) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statsu=500", "filter: 'statsu': unknown key, given '500'; did you mean 'status'?"),
        ("x=1", "filter: 'x': unknown key, given '1'; keys: service, protocol, peer, status, duration, "),
        ("duration=1ms", "filter: duration=1ms: expected one of < > <= >= after 'duration'"),
        ("duration>100", "filter: duration: '100' is not a time from 0s to 24h like '250ms', '10s' or '5m'"),
        ("status>ok", "filter: status: 'ok' is not a number like 500"),
        ("status>=500,600", "filter: status: '500,600' is not one value"),
        ("kind=proxy", "filter: kind: 'proxy' is not server or client"),
        ("error=yes", "filter: error: 'yes' is not true or false"),
        ("protocol=htpp", "filter: protocol: 'htpp' is not one of http, redis, postgresql, mysql, dns"),
        ("peer=10.0.0.0/99", "filter: peer: '10.0.0.0/99' is not a network like 10.0.0.0/8"),
        ("service=", "filter: 'service=' is not KEY OPERATOR VALUE like service=shop"),
        ("service=,", "filter: service: ',' is not a value"),
        ("shop", "filter: 'shop' is not KEY OPERATOR VALUE like service=shop; keys: service, protocol"),
        ("service=~shop", "filter: 'service=~shop' is not KEY OPERATOR VALUE"),
        ('name~"GET', "filter: 'name~\"GET': a quote that is not closed"),
        ("status=404 or status=500", "filter: 'or': all terms must hold; alternatives are given by commas"),
        ("not status=404", "filter: 'not': all terms must hold"),
    ],
)
def test_mistakes_are_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, PROTOCOLS)
    assert str(caught.value).startswith(message)


def test_the_command_says_it_in_one_line_with_exit_code_2() -> None:
    command = [sys.executable, "-m", "otel_ebpf.cli", "tap", "statsu=500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "otel-ebpf: error: filter: 'statsu': unknown key, given '500'; did you mean 'status'?\n"


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_configuration_error(text: str) -> None:
    try:
        found = Filter.parse(text)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert len(found.mask(typical(), tables())) == 5


@given(
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from(["=", "!=", "~", "!~", "<", ">", "<=", ">="]),
    st.one_of(st.text("ab*?.:/[]1", min_size=1, max_size=12), st.sampled_from(["100ms", "500", "true", "server"])),
)
def test_any_term_that_is_accepted_can_be_asked(key: str, operator: str, value: str) -> None:
    try:
        found = Filter.parse(f'{key}{operator}"{value}"')
    except ConfigError:
        return
    assert found.mask(typical(), tables()).dtype == np.bool_


@given(st.text("ab*?", max_size=8), st.text("abc", max_size=12))
def test_globs_agree_with_fnmatch(pattern: str, text: str) -> None:
    assert glob(pattern, anywhere=False)(text) == fnmatchcase(text, pattern)
    assert glob(pattern, anywhere=True)(text) == fnmatchcase(text, f"*{pattern}*")


def test_no_pattern_makes_a_hostile_text_expensive() -> None:
    # A regular expression of the same meaning would backtrack for longer than the universe is old.
    fits = glob("*a" * 30 + "b", anywhere=False)
    assert not fits("a" * 20_000)


def test_answers_are_those_of_the_row_whatever_was_asked_before() -> None:
    found, filter_ = tables(), Filter.parse("service=shop protocol=redis")
    batches = [typical(), batch(exchange(REDIS, "GET x", kind=Kind.CLIENT)), typical()]
    assert [int(filter_.mask(spans, found).sum()) for spans in batches] == [1, 1, 1]


def test_an_empty_batch_and_rows_that_nobody_could_read_pass_nothing() -> None:
    assert through("", Spans.empty()) == []
    unread = batch(exchange(CART, "/a"), exchange(CART, "/b"))
    unread.shape[1] = -2
    assert through("", unread) == [0]


def test_a_response_before_its_request_counts_as_no_time() -> None:
    spans = batch(exchange(CART, "/a", took=-5 * MS))
    assert through("duration<1ms", spans) == [0]
