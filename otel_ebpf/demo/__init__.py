"""`otel-ebpf demo`: a small shop of real programs, without any instrumentation, beside the agent and its viewer.

    customers → nginx (TLS) → shop → PostgreSQL, Redis, inventory, recommendations (Node), payment
    backoffice → reports → PostgreSQL

`services/` are the shop's own programs, which know nothing of tracing; `servers` says how each process is started;
`main` starts them all, shows where the page is, and leaves nothing behind.
"""
