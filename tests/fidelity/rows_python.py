"""CPython's rows."""

from __future__ import annotations

from tests.fidelity.row import Row, program
from tests.fidelity.site import PYTHON

ROWS = (
    Row(
        "python-threading",
        runtime="CPython",
        what="a thread a connection, pooled http.client",
        start=program(PYTHON, "{apps}/python_threading/app.py"),
        quick=("seq",),
    ),
)
