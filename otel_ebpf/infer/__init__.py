"""`otel-ebpf infer`: spans without parents in, spans with parents out."""
