"""HTTP/1.x: what one exchange says, and that whole batches say the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.model import Exchanges, Flag, Intern
from otel_ebpf.protocols.base import Fields, Options, Reading, Session
from otel_ebpf.protocols.extras import Batch, Leave, Told
from otel_ebpf.protocols.http import Http, Plain, split_host
from otel_ebpf.protocols.http_columns import HttpReader
from tests.unit.exchanges import Said, batch, connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def read(request: bytes, response: bytes = OK, **told: object) -> Reading:
    reading = Plain(Options()).read(request, response, Told(**{"server": True, **told}))  # type: ignore[arg-type]
    assert reading is not None
    return reading


def get(target: str, *headers: str, method: str = "GET", host: str = "shop.example") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_server_span_has_the_attributes_of_the_conventions() -> None:
    reading = read(get("/users/17?page=2", "User-Agent: curl/8", host="Shop.example:8080"))
    assert reading.texts == ("/users/17?page=2", "/users/17", "page=2")
    server = reading.fields.server
    assert (server.name, server.error, server.addressed, reading.fields.status) == (
        "GET /users/{id}",
        False,
        True,
        "200",
    )
    assert dict(server.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/users/{id}",
        "server.address": "shop.example",
        "server.port": 8080,
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert [(slot.attribute, reading.texts[slot.index]) for slot in server.slots] == [
        ("url.path", "/users/17"),
        ("url.query", "page=2"),
    ]
    assert dict(server.metric) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/users/{id}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }


def test_a_client_span_has_the_full_url_and_no_route() -> None:
    reading = read(get("/users/17?page=2", host="shop.example:8080"), https=True)
    client = reading.fields.client
    assert client.name == "GET"
    assert dict(client.attributes) == {
        "http.request.method": "GET",
        "server.address": "shop.example",
        "server.port": 8080,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    (slot,) = client.slots
    assert slot.attribute == "url.full"
    assert slot.prefix + reading.texts[slot.index] == "https://shop.example:8080/users/17?page=2"
    assert "http.route" not in dict(client.metric)


@pytest.mark.parametrize(
    ("status", "server", "client"),
    [(200, None, None), (302, None, None), (404, None, "404"), (503, "503", "503"), (999, "999", "999")],
)
def test_the_status_decides_the_error_by_kind(status: int, server: str | None, client: str | None) -> None:
    fields = read(get("/"), b"HTTP/1.1 %d X\r\n\r\n" % status).fields
    assert (fields.server.error, dict(fields.server.attributes).get("error.type")) == (server is not None, server)
    assert (fields.client.error, dict(fields.client.attributes).get("error.type")) == (client is not None, client)
    assert dict(fields.client.metric).get("error.type") == client


def test_a_request_that_was_never_answered_is_an_error_without_a_status() -> None:
    fields = read(get("/"), b"", failure="connection_reset").fields
    assert fields.status == ""
    assert fields.server.error
    assert dict(fields.server.attributes)["error.type"] == "connection_reset"
    assert "http.response.status_code" not in dict(fields.server.attributes)


def test_a_response_that_could_not_be_read_is_no_error() -> None:
    fields = read(get("/"), b"").fields
    assert (fields.server.error, fields.client.error, fields.status) == (False, False, "")


def test_an_unknown_method_is_other_and_keeps_its_original() -> None:
    fields = read(get("/", method="PROPFIND")).fields
    assert fields.server.name == "HTTP /"
    assert dict(fields.server.attributes)["http.request.method"] == "_OTHER"
    assert dict(fields.server.attributes)["http.request.method_original"] == "PROPFIND"


def test_the_absolute_form_names_the_server_and_hides_user_information() -> None:
    reading = read(get("http://me:secret@api.example:81/v1/items?key=1&q=2", host="proxy"))
    assert dict(reading.fields.client.attributes)["server.address"] == "api.example"
    assert dict(reading.fields.client.attributes)["server.port"] == 81
    assert reading.texts == (
        "http://REDACTED:REDACTED@api.example:81/v1/items?key=REDACTED&q=2",
        "/v1/items",
        "key=REDACTED&q=2",
    )
    assert reading.fields.client.slots[0].prefix == ""


def test_connect_names_the_far_end_and_makes_a_tunnel() -> None:
    request = get("far.example:443", method="CONNECT", host="far.example:443")
    reading = read(request, b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert dict(reading.fields.client.attributes)["server.port"] == 443
    assert reading.fields.client.slots[0].prefix + reading.texts[0] == "//far.example:443"
    assert reading.texts[1:] == ("", "")
    assert Http().leaves(request, b"HTTP/1.1 200 OK\r\n\r\n") == Leave.UNDECIDED
    assert Http().leaves(request, b"HTTP/1.1 407 No\r\n\r\n") == Leave.NO


def test_an_asterisk_is_the_server_itself() -> None:
    reading = read(get("*", method="OPTIONS"))
    assert (reading.texts[0], reading.texts[1]) == ("http://shop.example", "*")


def test_interim_responses_are_stepped_over_but_101_is_final() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert read(get("/"), interim + b"HTTP/1.1 201 Created\r\n\r\n").fields.status == "201"
    assert read(get("/"), interim).fields.status == ""
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello"
    assert read(get("/chat"), upgrade).fields.status == "101"
    assert Http().leaves(get("/chat"), upgrade) == Leave.UNKNOWN


def test_without_a_host_the_connection_names_the_server() -> None:
    reading = read(b"GET / HTTP/1.0\r\n\r\n", address="10.0.0.1", port=8080)
    assert dict(reading.fields.server.attributes)["server.address"] == "10.0.0.1"
    assert dict(reading.fields.server.attributes)["network.protocol.version"] == "1.0"
    assert reading.fields.client.slots[0].prefix == "http://10.0.0.1:8080"
    unix = read(b"GET / HTTP/1.0\r\n\r\n")
    assert not unix.fields.server.addressed
    assert unix.fields.client.slots == ()


def test_secrets_show_only_when_asked_for() -> None:
    request = get("/x?token=abc&page=1")
    assert read(request).texts == ("/x?token=REDACTED&page=1", "/x", "token=REDACTED&page=1")
    shown = Plain(Options(redact=False)).read(request, OK, Told())
    assert shown is not None
    assert shown.texts[2] == "token=abc&page=1"


def test_text_that_is_not_utf8_is_replaced() -> None:
    reading = read(b"GET /caf\xe9 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert reading.texts[1] == "/caf\ufffd"


def test_a_request_line_that_was_cut_still_says_what_was_kept() -> None:
    reading = read(b"GET /long/path/that/goes/on", b"HTTP/1.0 200 OK\r\n\r\n", address="10.0.0.1")
    assert reading.texts[1] == "/long/path/that/goes/on"
    assert dict(reading.fields.server.attributes)["network.protocol.version"] == "1.0"


@pytest.mark.parametrize(
    "request_", [b"", b"\x16\x03\x01", b"*1\r\n$4\r\nPING\r\n", b"GET\r\n", b"GET / HTTP/2.0\r\n\r\n"]
)
def test_other_bytes_are_no_http(request_: bytes) -> None:
    assert Http().detect(request_, b"") < 0.5
    assert Http().parse(request_, b"", Session(), Options()) == ()


def test_detection_wants_both_directions_to_agree() -> None:
    http = Http()
    assert http.detect(get("/"), OK) == 1.0
    assert http.detect(get("/"), b"") == 1.0
    assert http.detect(get("/"), b"+OK\r\n") < 0.5
    assert 0.5 <= http.detect(b"", OK) < 0.9


def test_the_ends_of_messages_are_found() -> None:
    post = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    chunked = b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert list(Http().split(post + get("/") + chunked)) == [
        len(post),
        len(post + get("/")),
        len(post + get("/") + chunked),
    ]
    assert list(Http().split(post[:-1])) == [len(post)]
    assert list(Http().split(get("/") + b"GET /x HTT")) == [len(get("/"))]
    assert list(Http().split(get("/") + b"GE")) == [len(get("/"))]
    # What no length announced and is no request belongs to the one before it.
    for rest in (b"\r\n", b'{"a": 1}', b"GETS it"):
        assert list(Http().split(get("/") + rest)) == [len(get("/") + rest)]
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert list(Http().replies(OK + empty + OK)) == [len(OK), len(OK + empty), len(OK + empty + OK)]
    assert list(Http().replies(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")) == []


@pytest.mark.parametrize(
    ("request_", "response", "rsp_bytes", "whole"),
    [
        (get("/"), OK, 0, True),
        (get("/"), OK[:-1], 0, False),
        (get("/"), b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nxx", 9041, True),
        (get("/"), b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nxx", 9039, False),
        (get("/", method="HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", 0, True),
        (get("/"), b"HTTP/1.1 304 Not Modified\r\n\r\n", 0, True),
        (get("/"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 0, True),
        (get("/"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 0, None),
        (get("/"), b"HTTP/1.1 200 OK\r\nContent-Le", 0, None),
        (get("/"), b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n", 0, None),
        (get("/"), b"", 0, None),
    ],
)
def test_a_response_is_whole_or_not_or_it_cannot_be_told(
    request_: bytes, response: bytes, rsp_bytes: int, whole: bool | None
) -> None:
    total = rsp_bytes or len(response)
    assert Http().complete(request_, response, len(request_), total) is whole
    rows = batch([Said(request_, response, rsp_bytes=total)])
    assert reader().complete(_of(rows)).tolist() == [{True: 1, False: 0, None: -1}[whole]]


@pytest.mark.parametrize("host", ["a b", "", "x:99999", "x:y", "h/../", "[::1", 'a"b'])
def test_what_is_no_host_is_not_taken_for_one(host: str) -> None:
    assert split_host(host) is None


# The columns and the plain reading


def reader(options: Options | None = None, intern: Intern[Fields] | None = None) -> HttpReader:
    return HttpReader(options or Options(), Intern[Fields](10_000) if intern is None else intern)


def _of(rows: Exchanges) -> Batch:
    known = connections(1)
    return Batch(rows.head, rows.request, rows.response, known.rows(rows.head["conn"], 0).astype("intp"), known.table)


TOKENS = st.sampled_from(
    ["GET", "POST", "DELETE", "OPTIONS", "QUERY", "get", "PROPFIND", "CONNECT", "G", "HEAD", "PATCH"]
)
PATHS = st.one_of(
    st.sampled_from(
        ["/", "/users/17", "/a/b?x=1", "/a?token=s3cret&b=2", "/s;jsessionid=77/x", "/p?a%5Fpi-key=1&q", "*"]
    ),
    st.text("abcXYZ019/?&=;%_-.:@# é\x00", min_size=1, max_size=60).map(lambda t: "/" + t),
    st.text(max_size=20),
    st.sampled_from(
        ["http://u:p@h.example/p?sig=1", "https://h", "far:443", "/x y", "/?pass_word=2", "/?xsig=1&sig=2"]
    ),
)
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "Host: shop.example:8080",
                "host:shop",
                "HOST: \t shop.example \t",
                "Host: bad host",
                "User-Agent: curl/8",
                "user-agent:  Mozilla/5.0 (X11)  ",
                "User-Agent:",
                "Content-Length: 0",
                "Transfer-Encoding: chunked",
                "Hos\x14: x",
                "User\rAgent: x",
                "Host : x",
                " Host: folded",
                "X-Host: other",
            ]
        ),
        st.text(max_size=30),
    ),
    max_size=6,
)
RESPONSES = st.one_of(
    st.sampled_from(
        [
            OK,
            b"",
            b"HTTP/1.0 404 Not Found\r\n\r\n",
            b"HTTP/1.1 500",
            b"HTTP/1.1 099 X\r\n",
            b"HTTP/1.1 20x OK",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200\r\n",
            b"HTTP/1.1 2",
            b"ICY 200 OK\r\n",
            b"HTTP/1.1 :00 OK\r\n",
        ]
    ),
    st.binary(max_size=30),
)
SEPARATORS = st.sampled_from(["\r\n", "\n"])
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 "])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    end = draw(SEPARATORS)
    lines = [f"{draw(TOKENS)} {draw(PATHS)} {draw(VERSIONS)}", *draw(HEADERS), "", draw(st.sampled_from(["", "body"]))]
    return end.join(lines).encode("utf-8", "surrogatepass")[: draw(st.sampled_from([1000, 1000, 60, 30]))]


@settings(max_examples=150)
@given(
    st.lists(st.tuples(requests(), RESPONSES, st.sampled_from([1, 3, 7, 9, 0, 8])), min_size=1, max_size=12),
    st.booleans(),
)
def test_columns_say_what_the_plain_reading_says(rows: list[tuple[bytes, bytes, int]], redact: bool) -> None:
    options = Options(redact=redact, routes=("/users/{who}",))
    said = [Said(request, response, flags=flags, n=n) for n, (request, response, flags) in enumerate(rows)]
    given_rows = batch(said)
    intern = Intern[Fields](10_000)
    columns = reader(options, intern).read(_of(given_rows))
    # Routes are learned in the order of arrival; the twin learns from the same requests, in the same order.
    plain = Plain(options)
    for i, one in enumerate(said):
        if columns.shape[i] < 0:
            continue
        flags = int(given_rows.head["flags"][i])
        failure = {0: "", 2: "no_response", 6: "connection_reset"}[flags & 6 if flags & 2 else 0]
        told = Told(
            https=bool(flags & Flag.TLS), failure=failure if not one.response else "", server=bool(flags & Flag.SERVER)
        )
        reading = plain.read(one.request, one.response, told)
        assert reading is not None
        assert intern[int(columns.shape[i])] == reading.fields
        texts = [
            bytes(columns.text[a : a + k]).decode()
            for a, k in zip(columns.slot_start[i].tolist(), columns.slot_length[i].tolist(), strict=True)
        ]
        assert tuple(texts) == reading.texts


def test_common_requests_are_read_by_columns() -> None:
    """The property above would hold for a reader that reads nothing."""
    said = [
        Said(get("/users/17?page=2", "User-Agent: curl/8")),
        Said(get("/a?token=x", method="DELETE"), b"HTTP/1.0 404 Not Found\r\n"),
        Said(b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", OK),
        Said(get("/caf\u00e9"), OK),
        Said(get("/unanswered"), b"", flags=Flag.SERVER | Flag.UNANSWERED),
        Said(get("/x"), OK, flags=0),
    ]
    said[0].response = OK
    assert (reader().read(_of(batch(said))).shape >= 0).all()


def test_pipelined_and_odd_requests_are_left_to_be_read_one_by_one() -> None:
    said = [
        Said(get("/a") + get("/b"), OK),
        Said(get("http://h/"), OK),
        Said(get("far:443", method="CONNECT"), OK),
        Said(get("/"), b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
        Said(get("/", host=""), OK),
        Said(get("/chat"), b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        Said(b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 1e9\r\n\r\nbody", OK),
    ]
    assert (reader().read(_of(batch(said))).shape < 0).all()


def test_a_flood_of_user_agents_does_not_become_a_flood_of_shapes() -> None:
    intern = Intern[Fields](10_000)
    flooded = reader(intern=intern)
    for start in range(0, 1000, 100):
        flooded.read(_of(batch([Said(get("/", f"User-Agent: bot/{i}"), OK) for i in range(start, start + 100)])))
    assert len(intern) < 200
    assert flooded.left_out["agent"] > 800
