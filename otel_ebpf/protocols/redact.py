"""Secrets in URLs: values of query parameters with secret names, user information, session ids in the path.

The names that the conventions list for `url.full` and `url.query` (OpenTelemetry registry, url.*) and those that name
credentials by their own word. Names compare without regard to case, `-` or `_`, and after percent-decoding, so that
`Access-Token` and `access%5Ftoken` are found as well.

>>> Redactor().query("page=2&token=abc&sig=")
'page=2&token=REDACTED&sig=REDACTED'
>>> Redactor().target("http://me:pw@shop/cart?key=1")
'http://REDACTED:REDACTED@shop/cart?key=REDACTED'
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.memo import words_at

REDACTED = "REDACTED"

SECRET_PARAMETERS = (
    # named by the conventions (registry of url.full, url.query)
    *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId"),
    *("Signature", "sig", "X-Goog-Signature"),
    # named by what they are
    *("X-Goog-Credential", "token", "access_token", "refresh_token", "id_token", "auth_token", "csrf_token"),
    *("security_token", "session_token", "password", "passwd", "passphrase", "pwd", "secret", "client_secret"),
    *("secret_key", "api_key", "key", "private_key", "access_key", "auth", "authorization", "bearer", "jwt"),
    *("credential", "credentials", "session", "session_id", "jsessionid", "phpsessid", "sid", "sas"),
    *("client_assertion", "code_verifier", "otp"),
)

_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*:)?//[^/?#]*@")
_PATH_SESSION = re.compile(r"(;[A-Za-z]*sess[A-Za-z]*id=)[^;/?#]*", re.IGNORECASE)
_DASHES = str.maketrans("", "", "-_")
_LOWER = np.uint32(0x20202020)


def _plain(name: str) -> str:
    """The name as it is compared: decoded as often as a careless server might, no case, no `-` and `_`."""
    for _ in range(3):
        decoded = unquote_plus(name)
        if decoded == name:
            break
        name = decoded
    return name.strip().lower().translate(_DASHES)


class Redactor:
    """Redacts texts one by one, and finds in whole columns which texts may need it."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = frozenset(_plain(name) for name in (*SECRET_PARAMETERS, *more))
        # Three letters of a name are enough to pick candidates; a `-` or `_` before the third does not hide it, since
        # such names are candidates by that character.
        starts = {int.from_bytes(name[:3].ljust(3, "=").encode()[:3], "little") for name in self._names}
        table = np.zeros(1 << 16, np.bool_)
        for start in starts:
            table[_fold(np.array([start | 0x202020], np.uint32))] = True
        self._starts = table

    def secret(self, name: str) -> bool:
        """Whether values of this query parameter are secret."""
        return _plain(name) in self._names

    def query(self, query: str) -> str:
        """A query string with the values of its secret parameters replaced; names and order stay."""
        parts = re.split(r"([&;])", query)
        for i in range(0, len(parts), 2):
            name, equals, _value = parts[i].partition("=")
            if equals and self.secret(name):
                parts[i] = f"{name}={REDACTED}"
        return "".join(parts)

    def path(self, path: str) -> str:
        """A path without session ids (`/cart;jsessionid=…`)."""
        return _PATH_SESSION.sub(rf"\g<1>{REDACTED}", path) if ";" in path else path

    def target(self, target: str) -> str:
        """A request target or URL of any form, without user information and with path and query redacted."""
        head, mark, query = target.partition("?")
        head = _USERINFO.sub(lambda m: f"{m[1] or ''}//{REDACTED}:{REDACTED}@", head)
        return self.path(head) + mark + self.query(query)

    def candidates(self, flat: NDArray[np.uint8], at: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(k,) whether the query parameter whose name begins at `at` in `flat` may be secret.

        A superset of `secret`, so that only few texts are looked at one by one; `flat` goes on 8 bytes behind.
        """
        word = words_at(flat)[at].astype(np.uint32)
        masked = _fold(word | _LOWER)
        odd = np.zeros(len(at), np.bool_)
        for shift in (0, 8, 16, 24):
            # Percent-encoded, dashed or blank-padded: the name is not what its bytes look like.
            byte = (word >> np.uint32(shift)).astype(np.uint8)
            odd |= _ODD[byte]
        return self._starts[masked] | odd


def _fold(word: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """16 bits of the first three letters."""
    bits: NDArray[np.uint32] = ((word & np.uint32(0xFFFFFF)) * np.uint32(2654435761)) >> np.uint32(16)
    return bits


_ODD = np.zeros(256, np.bool_)
_ODD[list(b"%+-_ \t\r\n")] = True
_ODD[128:] = True
