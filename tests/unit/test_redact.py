"""Secrets in URLs do not leave the host."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.redact import SECRET_PARAMETERS, Redactor

REDACTOR = Redactor()


@pytest.mark.parametrize("name", SECRET_PARAMETERS)
def test_the_value_of_a_secret_parameter_is_replaced_and_its_name_stays(name: str) -> None:
    assert REDACTOR.query(f"a=1&{name}=s3cret&b=2") == f"a=1&{name}=REDACTED&b=2"
    assert REDACTOR.query(f"{name.upper()}=s3cret") == f"{name.upper()}=REDACTED"


@pytest.mark.parametrize(
    "name", ["access%5Ftoken", "%74oken", "%2574oken", "api-key", "Api_Key", "a-p-i-key", "+token"]
)
def test_a_disguised_name_is_found(name: str) -> None:
    assert REDACTOR.query(f"{name}=s3cret") == f"{name}=REDACTED"


@pytest.mark.parametrize("query", ["page=2", "tokens=3", "monkey=1", "token", "", "=", "&&", "a=token", "design=1"])
def test_other_parameters_stay_as_they_are(query: str) -> None:
    assert REDACTOR.query(query) == query


def test_names_of_the_user_count_as_well() -> None:
    assert Redactor(["Card-Number", "x"]).query("cardnumber=4711&x=1&y=2") == "cardnumber=REDACTED&x=REDACTED&y=2"


def test_user_information_and_session_ids_are_replaced() -> None:
    assert REDACTOR.target("https://me:pw@shop/p?sig=1") == "https://REDACTED:REDACTED@shop/p?sig=REDACTED"
    assert REDACTOR.target("//me@shop/p") == "//REDACTED:REDACTED@shop/p"
    assert REDACTOR.target("/mail/me@shop") == "/mail/me@shop"
    assert REDACTOR.path("/cart;jsessionid=ABC.1/x;v=2") == "/cart;jsessionid=REDACTED/x;v=2"


@given(st.lists(st.text("aeiknoptsyAKT%57+_-=&=0", max_size=12), min_size=1, max_size=20))
def test_no_secret_parameter_escapes_the_columns(names: list[str]) -> None:
    """Rows that the vectorised check lets through are those that need no redaction."""
    for name in (n.partition("=")[0].partition("&")[0] for n in [*names, *SECRET_PARAMETERS]):
        flat = np.frombuffer(name.encode() + b"=1" + bytes(8), np.uint8)
        if REDACTOR.secret(name):
            assert REDACTOR.candidates(flat, np.zeros(1, np.intp))[0]


def test_most_parameters_are_no_candidates() -> None:
    for name in ("page", "q", "id", "limit", "sort", "lang", "utf8", "x", "user"):
        flat = np.frombuffer(name.encode() + b"=1" + bytes(8), np.uint8)
        assert not REDACTOR.candidates(flat, np.zeros(1, np.intp))[0]
