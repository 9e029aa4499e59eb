"""`otel-ebpf gateway`: OTLP in, the same with the traces of several hosts joined out.

`rules`: which trace goes on in which. `join`: learning rules from requests, and applying them. `window`: how long
requests wait for them. `shards`: several gateways as one. `intake`: all of it behind the receivers. `main`: the
command.
"""
