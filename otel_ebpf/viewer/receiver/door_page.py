"""What a browser without the token sees: a page with a field for it, that needs no other file.

>>> "type=\"password\"" in token_page("/map", [("start", "-1h")], wrong=False)
True
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 18vh auto 0; padding: 0 1rem; }
h1 { font-size: 1.15rem; margin: 0 0 .4rem; }
form { display: flex; gap: .5rem; margin: 1rem 0; }
input { flex: 1; min-width: 0; }
input, button { font: inherit; padding: .4rem .6rem; border: 1px solid GrayText; border-radius: 6px; }
[role=alert] { font-weight: 600; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# The one style above and a form to ourselves: scripts, images, frames and all else are not let in.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
).encode()


def token_page(path: str, query: Iterable[tuple[str, str]], *, wrong: bool) -> str:
    """The HTML. path, query: what was asked for, without the token; it is shown after the token was given.

    wrong: a token came, but not ours.
    """
    kept = "".join(f'<input type="hidden" name="{escape(key)}" value="{escape(value)}">' for key, value in query)
    # one slash: "//x" would be another host
    action = escape("/" + path.lstrip("/\\"))
    alert = '<p role="alert">This is not the token of this viewer.</p>' if wrong else ""
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Token needed · otel-ebpf</title><style>{_STYLE}</style></head>
<body><main>
<h1>otel-ebpf: a token is needed</h1>
<p>This viewer shows what it has to who knows its token: what <code>--token-file</code> names where it was started.</p>
{alert}<form method="get" action="{action}">{kept}
<input type="password" name="token" aria-label="Token" autocomplete="current-password" required autofocus>
<button>Open</button></form>
<p>Programs send it as the header <code>Authorization: Bearer TOKEN</code>.</p>
</main></body></html>
"""
