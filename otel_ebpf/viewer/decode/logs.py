"""Log requests as rows of `logs`. Source: opentelemetry/proto/logs/v1/logs.proto."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ebpf.viewer.contract import Malformed
from otel_ebpf.viewer.decode.attributes import as_json
from otel_ebpf.viewer.decode.batch import Batch
from otel_ebpf.viewer.decode.context import Context
from otel_ebpf.viewer.decode.weight import weigh

COLUMNS = (
    *(("time", "BIGINT"), ("trace_high", "UBIGINT"), ("trace_low", "UBIGINT"), ("span_id", "UBIGINT")),
    *(("service", "VARCHAR"), ("resource", "UBIGINT"), ("severity", "UTINYINT")),
    *(("body", "VARCHAR"), ("event", "VARCHAR"), ("attributes", "VARCHAR")),
)


def decode_logs(request: bytes, context: Context) -> Batch:
    """The records of one ExportLogsServiceRequest; raises Malformed."""
    weigh(request, ExportLogsServiceRequest.DESCRIPTOR)
    try:
        message = ExportLogsServiceRequest.FromString(request)
    except (DecodeError, RecursionError) as error:
        raise Malformed("not an ExportLogsServiceRequest") from error
    batch = Batch("logs")
    for group in message.resource_logs:
        resource = context.resources.of(group.resource)
        batch.resources[resource.id] = resource
        for scoped in group.scope_logs:
            for record in batch.some(scoped.log_records):
                time = record.time_unix_nano or record.observed_time_unix_nano or context.now
                wrong = _wrong(record) or context.wrong_time(time)
                if wrong:
                    batch.reject(wrong)
                    continue
                batch.rows.append(_row(record, time, resource.service, resource.id, context))
    context.count_left_out(batch)
    return batch


def _wrong(record: LogRecord) -> str:
    if len(record.trace_id) not in (0, 16):
        return "trace id is not 16 bytes"
    return "span id is not 8 bytes" if len(record.span_id) not in (0, 8) else ""


def _row(record: LogRecord, time: int, service: str, resource: int, context: Context) -> tuple[object, ...]:
    body = context.attributes.value(record.body)
    return (
        time,
        int.from_bytes(record.trace_id[:8], "big"),
        int.from_bytes(record.trace_id[8:], "big"),
        int.from_bytes(record.span_id, "big"),
        service,
        resource,
        record.severity_number if 0 <= record.severity_number <= 24 else 0,
        body if isinstance(body, str) else "" if body is None else as_json(body),
        context.attributes.name(record.event_name),
        context.attributes.text(record.attributes),
    )
