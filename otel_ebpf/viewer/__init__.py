"""One more OTLP backend: receives traces, metrics and logs, keeps them in an embedded store, and shows them.

`receiver/` takes OTLP in, `ingest` gathers requests into transactions, `decode/` turns them into columns, `store/`
keeps them, `api/` answers questions about them, `page/` (TypeScript, built into `_page/`) asks these questions.
"""
