"""Resource attributes that no recording brings about, against the model of the semantic conventions."""

from __future__ import annotations

import os

import pytest

from otel_ebpf.resource import Describer, host_attributes
from otel_ebpf.resource.containers import Container
from otel_ebpf.resource.describe import _container_attributes
from otel_ebpf.resource.procfs import read
from tests.shared.semconv_model import attributes

pytestmark = pytest.mark.shared


def test_every_resource_attribute_is_as_the_model_says() -> None:
    process = read(os.getpid())
    assert process is not None
    told = dict(Describer(host=host_attributes(), command_args=True).of_process(process).attributes)
    told |= _container_attributes(Container("ab" * 32, "shop", "acme/shop:1", "docker"))
    for name, value in told.items():
        said = attributes()[name]
        assert said.holds(value) and not said.deprecated, (name, value)
        assert not said.members or value in said.members, (name, value)
