"""What main.go does, with Python's SDK: a server span, and a child that calls a database and fails."""

import os

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # type: ignore[assignment]

provider = TracerProvider()  # the resource is OTEL_SERVICE_NAME's
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("checkout")
with tracer.start_as_current_span("POST /checkout", kind=SpanKind.SERVER) as served:
    served.set_attributes({"http.request.method": "POST", "http.route": "/checkout"})
    with tracer.start_as_current_span("SELECT carts", kind=SpanKind.CLIENT) as query:
        query.set_attributes({"db.system.name": "postgresql", "server.address": "carts.db"})
        query.record_exception(RuntimeError("deadlock detected"))
        query.set_status(StatusCode.ERROR, "deadlock detected")
provider.shutdown()
print(f"{served.get_span_context().trace_id:032x}")
