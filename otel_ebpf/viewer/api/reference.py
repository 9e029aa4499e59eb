"""The table of endpoints for docs/query-api.md: `python -m otel_ebpf.viewer.api.reference` prints it."""

from __future__ import annotations

from otel_ebpf.viewer.api.endpoints import ENDPOINTS, Endpoint
from otel_ebpf.viewer.api.openapi import openapi_path

BEGIN, END = "<!-- made by otel_ebpf.viewer.api.reference -->", "<!-- end -->"
_WINDOW = ("start", "end")


def table() -> str:
    """Markdown, one line an endpoint; start and end are left out where they are taken, since most take them."""
    lines = ["| GET /api/v1… | parameters | answers |", "|---|---|---|"]
    lines += [f"| `{openapi_path(one)}` | {_parameters(one)} | {one.summary} |" for one in ENDPOINTS]
    return "\n".join([BEGIN, *lines, END])


def _parameters(endpoint: Endpoint) -> str:
    shown = []
    for one in endpoint.parameters:
        if one.in_path or one.name in _WINDOW:
            continue
        words = one.kind.schema.get("enum")
        few = "=" + "\\|".join(map(str, words)) if isinstance(words, list) and len(words) < 4 else ""
        default = f" ({one.default})" if one.default is not None else ""
        shown.append(f"{one.name}{few}{default}")
    window = any(one.name == "start" for one in endpoint.parameters)
    return ", ".join([*(["_window_"] if window else []), *shown])


if __name__ == "__main__":
    print(table())
