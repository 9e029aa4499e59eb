"""Fixtures that many tests share: a sink, and the real agent that exports to it.

Property tests draw the same examples every time, so that a run says something of the commit and not of chance; `make
fuzz` draws new ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.agent import Agent, running_agent
from tests.sink import Sink

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=1000, deadline=None)
settings.load_profile("repeatable")


class Failures:
    """Tells of each failure when it happens, so that a run which is cut off has told of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After the letter in the line of progress."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.line("")
            terminal.section(report.nodeid, red=True)
            terminal.write_line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    """Add it."""
    config.pluginmanager.register(Failures(config))


@pytest.fixture
def sink() -> Iterator[Sink]:
    """An OTLP/HTTP receiver."""
    with Sink() as receiver:
        yield receiver


@pytest.fixture
def agent(sink: Sink) -> Iterator[Agent]:
    """The real agent, ready, exporting traces to `sink`; that it stops by SIGTERM with 0 is part of every test."""
    assert os.geteuid() == 0, "the agent loads BPF programs: run the tests as root"
    with running_agent(sink.endpoint) as running:
        yield running
