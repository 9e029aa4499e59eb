"""TLS towards a receiver: whom to trust, and who we are."""

from __future__ import annotations

import ssl

from otel_ebpf.errors import ConfigError
from otel_ebpf.otlp.settings import SignalSettings


def tls_context(settings: SignalSettings) -> ssl.SSLContext:
    """The context that the settings ask for; ConfigError names the files if they cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.certificate)
        if settings.client_certificate is not None:
            context.load_cert_chain(settings.client_certificate, settings.client_key)
    except OSError as error:
        files = (settings.certificate, settings.client_certificate, settings.client_key)
        named = ", ".join(file for file in files if file)
        raise ConfigError(f"otlp: {named}: not usable PEM certificates and key: {error}") from error
    return context
