// An ordinary program with the OpenTelemetry SDK: a server span with a child that calls a database and fails,
// sent by OTLP over gRPC or HTTP as OTEL_EXPORTER_OTLP_PROTOCOL says. Prints the trace id.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	client := otlptracegrpc.NewClient()
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf" {
		client = otlptracehttp.NewClient()
	}
	exporter, err := otlptrace.New(ctx, client)
	must(err)
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter)) // the resource is OTEL_SERVICE_NAME's
	tracer := provider.Tracer("checkout")
	ctx, served := tracer.Start(ctx, "POST /checkout", trace.WithSpanKind(trace.SpanKindServer))
	served.SetAttributes(attribute.String("http.request.method", "POST"), attribute.String("http.route", "/checkout"))
	_, query := tracer.Start(ctx, "SELECT carts", trace.WithSpanKind(trace.SpanKindClient))
	query.SetAttributes(attribute.String("db.system.name", "postgresql"), attribute.String("server.address", "carts.db"))
	query.RecordError(errors.New("deadlock detected"))
	query.SetStatus(codes.Error, "deadlock detected")
	query.End()
	served.End()
	must(provider.Shutdown(context.Background()))
	fmt.Println(served.SpanContext().TraceID())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
