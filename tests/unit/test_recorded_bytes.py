"""What every protocol module promises, held with the recorded bytes of real conversations, whole, cut and broken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.protocols import registry
from otel_ebpf.protocols.base import Options, Protocol, Session
from otel_ebpf.protocols.sql_session import REMEMBERED
from tests.unit.recorded import talks

RECORDED = {module.name: [exchange for talk in talks(module.name) for exchange in talk] for module in registry()}
every_module = pytest.mark.parametrize("module", registry(), ids=lambda module: module.name)
_byte_at = st.tuples(st.integers(0, 1023), st.integers(0, 255))


@every_module
@settings(max_examples=400)
@given(data=st.data(), cut=st.tuples(*[st.integers(0, 1024)] * 2, *[st.integers(0, 512)] * 2), flip=_byte_at)
def test_any_cut_of_a_real_exchange_is_read_without_an_error(
    module: Protocol, data: st.DataObject, cut: tuple[int, int, int, int], flip: tuple[int, int]
) -> None:
    exchanges = st.sampled_from(RECORDED[module.name])
    one, other = data.draw(exchanges), data.draw(exchanges)
    start, end, first, last = cut
    request = bytearray(one[0][start % 64 : end] + other[0])
    if request:
        request[flip[0] % len(request)] = flip[1]
    response = one[1][first % 32 : last] + other[1]
    session = Session()

    module.detect(bytes(request), response)
    module.parse(bytes(request), response, session, Options())
    module.parse(*other, session, Options())
    assert len(session.remembered) <= REMEMBERED


@every_module
def test_the_same_bytes_mean_the_same_again(module: Protocol) -> None:
    for talk in talks(module.name):
        session = Session()
        for request, response in talk:
            before = session.version
            first = list(module.parse(request, response, session, Options()))
            if session.version == before:  # what the engine may memoise
                assert list(module.parse(request, response, session, Options())) == first
                assert session.version == before


@every_module
def test_a_conversation_is_of_its_own_protocol_and_of_no_other(module: Protocol) -> None:
    for protocol, exchanges in RECORDED.items():
        for request, response in exchanges:
            if protocol != module.name:
                assert module.detect(request, response) < 0.5, (protocol, request)
    assert max(module.detect(*exchange) for exchange in RECORDED[module.name]) >= 0.9
