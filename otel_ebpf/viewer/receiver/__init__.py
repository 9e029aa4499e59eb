"""OTLP in: gRPC and HTTP (protobuf, JSON), each request bounded in bytes, time and number, handed to an `Intake`.

`over_grpc`, `over_http`: the two transports. `reception`: what they share. `access`: who may come in.
"""
