"""The query API: answers questions about what is stored, as JSON over HTTP, and in the form of Jaeger's query API.

`routes` (in `routing`) makes the Starlette routes; `sources` says what the API needs to know from the running process.
"""
