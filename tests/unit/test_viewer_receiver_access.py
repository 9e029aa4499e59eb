"""Who may come in: at which address, with what, by which name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace

import grpc
import httpx
import pytest

from otel_ebpf.errors import ConfigError
from otel_ebpf.viewer.listening import Listening, places
from otel_ebpf.viewer.receiver.access import Door
from otel_ebpf.viewer.receiver.over_grpc import METHODS
from tests.unit.receivers import Certificates, make_certificates
from tests.unit.viewer_receivers import ANY_PORT, TOKEN, Served, served

EXPORT = next(iter(METHODS))
PROTOBUF = {"content-type": "application/x-protobuf"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


def everywhere(listening: Listening) -> Listening:
    """The same on all addresses of this host, as far as these need no other's network."""
    return replace(listening, page="0.0.0.0:0", grpc="0.0.0.0:0", http="0.0.0.0:0")


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def grpc_code(it: Served, *metadata: tuple[str, str]) -> grpc.StatusCode:
    with grpc.insecure_channel(f"127.0.0.1:{port_of(it.grpc)}") as channel:
        try:
            channel.unary_unary(EXPORT)(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def loopback() -> Iterator[Served]:
    with served() as it:
        yield it


@pytest.fixture(scope="module", params=["loopback", "everywhere"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Served]:
    """With a token: an address that is not loopback, and loopback alone, which then has it too."""
    listening = replace(ANY_PORT, token=TOKEN)
    with served(everywhere(listening) if request.param == "everywhere" else listening) as it:
        yield it


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("option", ["page", "grpc", "http"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.7:0"])
def test_an_address_for_others_is_refused_unless_guarded(option: str, address: str) -> None:
    listening = replace(ANY_PORT, **{option: address})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        places(listening)
    assert all(remedy in str(caught.value) for remedy in (address, "--token-file", "--tls-client-ca", "--insecure"))
    assert "\n" not in str(caught.value)
    assert places(replace(listening, token=TOKEN))[option].guarded
    assert not places(replace(listening, insecure=True))[option].guarded


def test_a_token_for_one_address_leaves_loopback_as_it_is() -> None:
    found = places(replace(ANY_PORT, page="0.0.0.0:0", token=TOKEN))
    assert {name: place.guarded for name, place in found.items()} == {"page": True, "grpc": False, "http": False}
    assert all(place.guarded for place in places(replace(ANY_PORT, token=TOKEN)).values())


@pytest.mark.parametrize("token", ["short", "with a blank in the middle", "ünicode-ünicode-ünicode", "x" * 20 + "\n"])
def test_a_token_that_no_header_can_bear_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="--token-file"):
        places(replace(ANY_PORT, token=token))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("viewer.localhost:8890", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:8890", 200),
        ("evil.example", 421),
        ("evil.example:4318", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_ours_is_refused_at_loopback(host: str, status: int, loopback: Served) -> None:
    """DNS rebinding: a page of evil.example has its name point at 127.0.0.1, and is then of the same origin."""
    headers = {**PROTOBUF, "host": host}
    assert httpx.post(loopback.http(), headers=headers).status_code == status
    page = httpx.get(loopback.servers.page_url, headers=headers)
    assert page.status_code == status
    assert ("hello" in page.text) == (status == 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (BEARER, 200),
        ({"authorization": f"bearer  {TOKEN}"}, 200),
        ({}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": b"Bearer \xff\xfe"}, 401),
    ],
)
def test_otlp_http_wants_the_token(headers: dict[str, str], status: int, guarded: Served) -> None:
    response = httpx.post(guarded.http().replace("0.0.0.0", "127.0.0.1"), headers={**PROTOBUF, **headers})
    assert response.status_code == status
    assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (f"Bearer {TOKEN}", grpc.StatusCode.OK),
        (None, grpc.StatusCode.UNAUTHENTICATED),
        (TOKEN, grpc.StatusCode.UNAUTHENTICATED),
        (f"Bearer {TOKEN}x", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_otlp_grpc_wants_the_token(value: str | None, code: grpc.StatusCode, guarded: Served) -> None:
    assert grpc_code(guarded, *([] if value is None else [("authorization", value)])) is code


def test_a_browser_opens_the_address_with_the_token_once(guarded: Served) -> None:
    """The token gives a cookie and leaves the address; the cookie is good for the page and its API, not for OTLP."""
    url = httpx.URL(guarded.servers.page_url)
    assert url.params["token"] == TOKEN
    with httpx.Client(base_url=url.join("/")) as browser:
        assert browser.get("/").status_code == 401
        assert browser.get("/?token=wrong").status_code == 401
        assert browser.get("/api/v1/map").json().keys() == {"error"}
        opened = browser.get(f"/traces?service=a%26b&token={TOKEN}&limit=")
        assert (opened.status_code, opened.headers["location"]) == (303, "/traces?service=a%26b&limit=")
        cookie = opened.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
        assert "Secure" not in cookie
        assert TOKEN not in cookie
        assert browser.get(opened.headers["location"]).text == "hello"
        assert browser.get("/api/v1/map").text == "hello"
        taken = dict(browser.cookies)
        otlp = guarded.http().replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(otlp, headers=PROTOBUF, cookies=taken).status_code == 401
    with httpx.Client(base_url=url.join("/"), cookies=dict.fromkeys(taken, "0" * 64)) as stranger:
        assert stranger.get("/").status_code == 401


def test_a_browser_without_the_token_gets_a_page_with_a_field_for_it(guarded: Served) -> None:
    url = httpx.URL(guarded.servers.page_url).join("/map")
    page = httpx.get(url, params={"q": '"><script>x</script>', "token": "wrong"}, headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert page.headers["www-authenticate"] == "Bearer"
    assert page.headers["cache-control"] == "no-store"
    (policy,) = page.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert '<form method="get" action="/map">' in page.text
    assert 'name="token"' in page.text
    assert "not the token" in page.text
    assert "<script" not in page.text
    first = httpx.get(url, headers={"accept": "text/html"})
    assert "not the token" not in first.text
    assert httpx.get(url).headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["//evil.example/", "/%5Cevil.example/", "///evil.example"])
def test_the_token_leads_nowhere_else(path: str, guarded: Served) -> None:
    host = f"127.0.0.1:{port_of(guarded.servers.addresses['page'])}"
    response = httpx.get(f"http://{host}{path}", params={"token": TOKEN})
    assert response.status_code == 303
    assert httpx.URL(f"http://{host}/").join(response.headers["location"]).netloc.decode() == host
    assert response.headers["location"][1:2] not in ("/", "\\")


def test_scripts_use_the_header_at_the_page_too(guarded: Served) -> None:
    url = httpx.URL(guarded.servers.page_url).join("/api/v1/map")
    assert httpx.get(url, headers=BEARER).text == "hello"


def test_browsers_are_told_to_be_strict(loopback: Served, guarded: Served) -> None:
    """On each answer, refusals too."""
    for it in (loopback, guarded):
        headers = httpx.get(httpx.URL(it.servers.page_url).join("/")).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_a_strangers_long_body_is_not_read(guarded: Served) -> None:
    response = httpx.post(guarded.http().replace("0.0.0.0", "127.0.0.1"), content=b"\0" * (50 << 20), headers=PROTOBUF)
    assert response.status_code == 401


def test_insecure_lets_anyone_in() -> None:
    with served(replace(everywhere(ANY_PORT), insecure=True)) as it:
        assert httpx.get(it.servers.page_url, headers={"host": "viewer.example"}).text == "hello"
        assert grpc_code(it) is grpc.StatusCode.OK


def test_client_certificates(certificates: Certificates) -> None:
    """Given an authority for clients, then who has no certificate of it does not come in, at any of the three."""
    certificate, key = map(str, certificates.server)
    listening = replace(ANY_PORT, tls_cert=certificate, tls_key=key, tls_client_ca=str(certificates.authority))
    with served(everywhere(listening)) as it:
        page = it.servers.page_url
        http = f"https://127.0.0.1:{port_of(it.servers.addresses['http'])}/v1/traces"
        assert page.startswith("https://127.0.0.1:")
        ours = _context(certificates, with_client=True)
        assert httpx.get(page, verify=ours).text == "hello"
        assert httpx.post(http, headers=PROTOBUF, verify=ours).status_code == 200
        for url in (page, http):
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=_context(certificates, with_client=False))
        assert _tls_code(it, certificates, with_client=True) is grpc.StatusCode.OK
        assert _tls_code(it, certificates, with_client=False) is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_and_a_token(certificates: Certificates) -> None:
    certificate, key = map(str, certificates.server)
    with served(everywhere(replace(ANY_PORT, token=TOKEN, tls_cert=certificate, tls_key=key))) as it:
        context = _context(certificates, with_client=False)
        opened = httpx.get(it.servers.page_url, verify=context)
        assert opened.status_code == 303
        assert "Secure" in opened.headers["set-cookie"]
        assert _tls_code(it, certificates, with_client=False) is grpc.StatusCode.UNAUTHENTICATED
        code = _tls_code(it, certificates, ("authorization", f"Bearer {TOKEN}"), with_client=False)
        assert code is grpc.StatusCode.OK


def test_a_door_compares_the_whole_token() -> None:
    door = Door(TOKEN)
    assert door.knows_token(TOKEN.encode())
    assert not door.knows_token(b"")
    assert not door.knows_token(TOKEN.encode() + b"\0")
    assert not door.knows_cookie(TOKEN)
    assert not door.knows_cookie("ü")


def _context(certificates: Certificates, *, with_client: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    if with_client:
        context.load_cert_chain(*certificates.client)
    return context


def _tls_code(it: Served, certificates: Certificates, *metadata: tuple[str, str], with_client: bool) -> grpc.StatusCode:
    certificate, key = certificates.client
    pair = (key.read_bytes(), certificate.read_bytes()) if with_client else (None, None)
    credentials = grpc.ssl_channel_credentials(certificates.authority.read_bytes(), *pair)
    with grpc.secure_channel(f"127.0.0.1:{port_of(it.grpc)}", credentials) as channel:
        try:
            channel.unary_unary(EXPORT)(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return error.code()
        return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "cors", 403),
        ("cross-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_a_page_of_another_site_may_link_here_but_not_ask(site: str, mode: str, status: int, loopback: Served) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    assert httpx.get(loopback.servers.page_url, headers=headers).status_code == status
