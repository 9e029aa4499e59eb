"""The `otel-ebpf` command: run, view, gateway, query, infer, tap, demo, doctor, config.

Starts fast: what a command needs is imported by that command. Exit codes: 0 fine, 1 cannot run, 2 wrong usage or
configuration; a user gets one line on stderr, never a traceback (unless `--debug` asks for it).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from otel_ebpf import __version__
from otel_ebpf.errors import ConfigError, OtelEbpfError

if TYPE_CHECKING:
    from otel_ebpf.config import Config

_FLAGS = {
    "--otlp-endpoint": ("otlp.endpoint", "URL", "export to this Collector or backend"),
    "--otlp-protocol": ("otlp.protocol", "P", "grpc or http/protobuf"),
    "--signals": ("signals", "S,…", "what is exported: traces,metrics,logs"),
    "--admin-address": ("admin.address", "H:P", "where /readyz, /healthz and /metrics are served; or none"),
    "--output": ("output", "O", "console (live view), none, or auto"),
}
"""Flags that stand for a key: (key, name of the value, help)."""
_SWITCHES = {
    "--viewer": ("viewer.enabled", "always"),
    "--no-viewer": ("viewer.enabled", "never"),
    "--no-redact": ("redact.enabled", "false"),
}
"""Flags that stand for a key and its value."""
_EPILOG = """Exit codes: 0 fine, 1 cannot run, 2 wrong usage or configuration.
`otel-ebpf config reference` lists all keys, their variables and defaults."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; flags are not abbreviated."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (what argparse itself takes)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see `{self.prog} --help`)")


class _SetKey(argparse.Action):
    """Collects `{key: (text, flag)}` from the flags that stand for keys."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        text, flag = str(values), option_string or ""
        key, text = _SWITCHES.get(flag) or (_FLAGS.get(flag, ("",))[0], text)
        if flag == "--set":
            key, equals, text = text.partition("=")
            if not equals:
                raise ConfigError(f"--set: {key!r} is not KEY=VALUE")
        namespace.flags[key] = (text, flag)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    shared = _Parser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
    keyed = _Parser(add_help=False)
    keyed.set_defaults(flags={})
    keyed.add_argument("--config", metavar="F", help="YAML file (default: $OTEL_EBPF_CONFIG)")
    for flag, (_key, metavar, what) in _FLAGS.items():
        keyed.add_argument(flag, metavar=metavar, help=what, action=_SetKey, default=argparse.SUPPRESS)
    for flag, what in (
        ("--viewer", "serve a page of what is observed, even without a live view (viewer.enabled: always)"),
        ("--no-viewer", "no page (viewer.enabled: never)"),
        ("--no-redact", "show secrets, literals and values"),
    ):
        keyed.add_argument(flag, nargs=0, action=_SetKey, default=argparse.SUPPRESS, help=what)
    keyed.add_argument(
        "--set", metavar="KEY=VALUE", action=_SetKey, default=argparse.SUPPRESS, help="any key of the configuration"
    )

    parser = _Parser(
        prog="otel-ebpf",
        description="Every request that the services of this host receive and send, as OpenTelemetry.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"otel-ebpf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, handler: Callable[[argparse.Namespace], int], what: str, keys: bool) -> _Parser:
        sub: _Parser = commands.add_parser(
            name, help=what, description=what, parents=[shared, keyed] if keys else [shared]
        )
        sub.set_defaults(handler=handler)
        return sub

    command("run", _run, "observe this host until SIGTERM or SIGINT", keys=True)
    from otel_ebpf.viewer.options import add_arguments as add_view
    from otel_ebpf.viewer.query import add_arguments as add_query

    add_view(command("view", _view, "receive OTLP, keep it, and show it as a page", keys=False))
    add_query(command("query", _query, "ask a viewer: services, traces, a trace, …", keys=False))
    from otel_ebpf.infer.options import add_arguments as add_infer

    add_infer(
        command("infer", _infer, "spans without parents in, spans with parents out, from times alone", keys=False)
    )
    from otel_ebpf.gateway.options import add_arguments as add_gateway

    add_gateway(command("gateway", _gateway, "receive OTLP of several hosts, join their traces, pass it on", keys=True))
    tap = command("tap", _tap, "the live lines alone", keys=True)
    tap.add_argument("filter", nargs="?", default="", metavar="FILTER", help="e.g. 'service=shop duration>100ms'")
    tap.add_argument("--json", action="store_true", help="one JSON object a line")
    demo = command("demo", _demo, "a small real shop, observed: page and live map within seconds", keys=False)
    demo.add_argument("--rate", type=float, default=8.0, metavar="N", help="requests a second (8)")
    demo.add_argument("--dir", metavar="D", help="where its folder is made, which goes at the end ($TMPDIR or /tmp)")
    demo.add_argument("--listen", default="127.0.0.1:8890", metavar="H:P", help="where the page is (127.0.0.1:8890)")
    demo.add_argument("--shop-only", "--no-agent", action="store_true", help="the shop alone, for another agent to see")
    doctor = command("doctor", _doctor, "what this host allows, with the remedy for each no", keys=True)
    doctor.add_argument("--json", action="store_true", help="for machines")
    config = command("config", _config, "the values in effect, and where each came from", keys=True)
    config.add_argument("action", nargs="?", choices=("check", "reference"), help="check F, or list all keys")
    config.add_argument("file", nargs="?", metavar="F", help="the file to check")
    config.add_argument("--json", action="store_true", help="for machines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = build_parser().parse_args(arguments)
        code: int = options.handler(options)
        sys.stdout.flush()
        return code
    except OtelEbpfError as error:
        return _fail(str(error), error.exit_code, arguments)
    except KeyboardInterrupt:
        return 0  # how `tap` is ended; `run` handles the signal itself
    except BrokenPipeError:
        # The reader has gone (`otel-ebpf tap | head`): nothing is wrong, and the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = "" if "--debug" in arguments else " (a defect: `--debug` shows where)"
        return _fail(f"{text}{hint}", 1, arguments)


def _fail(message: str, code: int, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    print(f"otel-ebpf: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _load(options: argparse.Namespace) -> Config:
    from pathlib import Path

    from otel_ebpf.config import load

    path = options.config or os.environ.get("OTEL_EBPF_CONFIG")
    return load(Path(path) if path else None, os.environ, options.flags)


def _run(options: argparse.Namespace) -> int:
    config = _load(options)
    from otel_ebpf import agent

    return agent.run(config)


def _view(options: argparse.Namespace) -> int:
    from otel_ebpf.viewer import main as viewer

    return viewer.main(options)


def _gateway(options: argparse.Namespace) -> int:
    config = _load(options)
    from otel_ebpf.gateway import main as gateway

    return gateway.main(config, options)


def _query(options: argparse.Namespace) -> int:
    from otel_ebpf.viewer import query

    return query.main(options)


def _infer(options: argparse.Namespace) -> int:
    from otel_ebpf.infer import main as infer

    return infer.main(options)


def _tap(options: argparse.Namespace) -> int:
    config = _load(options)
    from otel_ebpf.control import tap

    return tap.main(config, options.filter, options.json)


def _demo(options: argparse.Namespace) -> int:
    from pathlib import Path

    from otel_ebpf.demo import main as demo

    folder = Path(options.dir) if options.dir else None
    return demo.run(demo.Options(options.rate, folder, options.shop_only, options.listen))


def _doctor(options: argparse.Namespace) -> int:
    from otel_ebpf import doctor

    return doctor.main(_load(options), json=options.json)


def _config(options: argparse.Namespace) -> int:
    from otel_ebpf.config import reference

    if options.action != "check" and options.file:
        raise ConfigError(f"config {options.action}: takes no file, got {options.file!r}")
    if options.action == "reference":
        sys.stdout.write(reference.markdown())
        return 0
    if options.action == "check":
        return _check(options)
    config = _load(options)
    sys.stdout.write(reference.as_json(config) if options.json else reference.as_yaml(config))
    return 0


def _check(options: argparse.Namespace) -> int:
    """Is the file right, by itself? The environment counts only where the file refers to it."""
    from pathlib import Path

    from otel_ebpf.config.load import check

    if not options.file:
        raise ConfigError("config check: which file? usage: otel-ebpf config check F")
    given = check(Path(options.file), os.environ)
    print(f"{options.file}: right, {given} key{'s' * (given != 1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
