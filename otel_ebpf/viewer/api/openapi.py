"""The OpenAPI 3.1 document, made from the table of endpoints and the types of their answers."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from otel_ebpf import __version__
from otel_ebpf.viewer.api import answers
from otel_ebpf.viewer.api.endpoints import ENDPOINTS, LIVE, Endpoint
from otel_ebpf.viewer.api.parameters import Parameter

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_PROBLEMS = {
    "400": "A parameter is wrong",
    "404": "There is no such thing in the store",
    "503": "Not answered within 10 s, or too many listeners",
}


@cache
def document() -> dict[str, object]:
    """All of it; served at openapi.json."""
    paths = {openapi_path(one): {"get": _operation(one)} for one in ENDPOINTS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otel-ebpf query API",
            "version": __version__,
            "description": "Times are Unix milliseconds, durations milliseconds, rates per second.",
        },
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(_definitions())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def openapi_path(endpoint: Endpoint) -> str:
    """Starlette's path as OpenAPI writes it: /metrics/{name:path} is /metrics/{name}."""
    return re.sub(r":[a-z]+}", "}", endpoint.path)


def _operation(endpoint: Endpoint) -> dict[str, object]:
    reference = {"$ref": f"#/components/schemas/{endpoint.type.__name__}"}
    kind = "text/event-stream" if endpoint is LIVE else "application/json"
    responses: dict[str, object] = {
        "200": {"description": endpoint.summary, "content": {kind: {"schema": reference}}},
        **{code: _problem(what) for code, what in _PROBLEMS.items()},
    }
    return {
        "summary": endpoint.summary,
        "operationId": "_".join(re.findall(r"[a-z]+", openapi_path(endpoint))),
        "parameters": [_parameter(one) for one in endpoint.parameters],
        "responses": responses,
    }


def _problem(what: str) -> dict[str, object]:
    return {
        "description": what,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _parameter(one: Parameter) -> dict[str, object]:
    schema: dict[str, object] = dict(one.kind.schema)
    if one.default is not None:
        schema["default"] = one.kind.read(one.default) if schema.get("type") == "integer" else one.default
    if one.repeated:
        schema = {"type": "array", "items": schema}
    return {
        "name": one.name,
        "in": "path" if one.in_path else "query",
        "required": one.in_path,
        "description": one.summary,
        "schema": schema,
    }


def _definitions() -> Iterator[tuple[str, dict[str, object]]]:
    for name, found in vars(answers).items():
        if is_typeddict(found):
            hints = get_type_hints(found)
            yield (
                name,
                {
                    "type": "object",
                    "description": " ".join((found.__doc__ or "").split()),
                    "properties": {key: _schema(hint) for key, hint in hints.items()},
                    "required": list(hints),
                },
            )


def _schema(hint: Any) -> dict[str, object]:  # noqa: ANN401 (a type, of whatever form)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if is_typeddict(hint):
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    origin, of = get_origin(hint), get_args(hint)
    if origin is list:
        return {"type": "array", "items": _schema(of[0])}
    if origin is dict:
        return {"type": "object"}
    if origin is Literal:
        return {"type": "string", "enum": list(of)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one) for one in of]}
    return {}  # object: any value
