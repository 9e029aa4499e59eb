"""A FastAPI service with an OpenTelemetry SDK, or without: GET /checkout/ID asks Redis, and the Go service over HTTP.

shop.py PORT STOCK-PORT REDIS-PORT [server] [http] [redis] [grpc]: what is instrumented; whether OTLP goes by gRPC.
"""

import sys

import redis
import requests
import uvicorn
from fastapi import FastAPI

port, stock, store = map(int, sys.argv[1:4])
instrumented = sys.argv[4:]
app = FastAPI()
cache = redis.Redis("127.0.0.1", store, protocol=2)
session = requests.Session()


@app.get("/checkout/{number}")
async def checkout(number: str) -> str:
    cache.get(f"cart:{number}")
    return session.get(f"http://127.0.0.1:{stock}/stock/{number}", timeout=10).text


if instrumented:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "checkout", "service.namespace": "shop"}))
    exporter = OverGrpc() if "grpc" in instrumented else OverHttp()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    if "server" in instrumented:
        FastAPIInstrumentor.instrument_app(app)
    if "http" in instrumented:
        RequestsInstrumentor().instrument()
    if "redis" in instrumented:
        RedisInstrumentor().instrument()

uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
