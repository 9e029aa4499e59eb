"""Programs that run other programs: where in a command line the name of what they run is to be found.

One row per runtime in RUNTIMES, one function per way of finding the name. All are pure: a process's facts and a reader
of its files go in, a name comes out ("" when there is none, then the runtime's own name is used). Command lines are
written by strangers: nothing in here may raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from posixpath import basename, dirname, join, normpath
from typing import TypeAlias

from otel_ebpf.resource.procfs import Files, Process
from otel_ebpf.resource.words import (
    GENERIC_MODULES,
    directory_name,
    module_name,
    operands,
    option,
    script_name,
    stem,
    unversioned,
    word_set,
)

Namer: TypeAlias = Callable[[Process, Sequence[str], Files], str]
"""(the process, its arguments after the program, reader of its files) → name."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """program: what the executable is called. name: `process.runtime.name`, "" if the conventions know none."""

    program: re.Pattern[str]
    name: str
    namer: Namer


# ---- Python ----

_PYTHON_VALUED = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_RUNS_A_SCRIPT = frozenset(
    {"coverage", "cProfile", "profile", "pdb", "trace", "debugpy", "ddtrace", "memray", "scalene"}
)
"""Modules that run another script or module, given after their own options."""
_MODULE_IS_NAME = GENERIC_MODULES - {"server", "http", "service", "web", "project", "core"}
_FLAGS_OF_SERVERS = word_set(
    "--reload --preload --daemon -D -R --check-config --print-config --spew --no-sendfile --capture-output "
    "--reuse-port --proxy-protocol --factory --proxy-headers --no-proxy-headers --use-colors --no-use-colors "
    "--access-log --no-access-log --no-server-header --no-date-header --access-logfile=- --debug --h2c"
)
_APPLICATION = re.compile(r"(?!python:|file:|unix:|fd:)[A-Za-z_]\w*(\.\w+)*:[A-Za-z_][\w.]*(\(.*\))?")


def _python(process: Process, arguments: Sequence[str], files: Files) -> str:
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        argument = arguments[at]
        if argument == "-m" or (argument[:2] == "-m" and len(argument) > 2):
            module = argument[2:] or (arguments[at + 1] if at + 1 < len(arguments) else "")
            return _python_program(process, module, arguments[at + (1 if argument[2:] else 2) :], files, is_module=True)
        if argument.startswith("-c"):
            return ""
        at += 2 if argument in _PYTHON_VALUED else 1
    if at >= len(arguments):
        return ""
    return _python_program(process, arguments[at], arguments[at + 1 :], files, is_module=False)


def _python_program(process: Process, program: str, arguments: Sequence[str], files: Files, *, is_module: bool) -> str:
    name = program.removesuffix(".__main__") if is_module else stem(program)
    if name in PYTHON_LAUNCHERS:
        return PYTHON_LAUNCHERS[name](process, arguments, files)
    if name in _RUNS_A_SCRIPT:
        rest = operands([a for a in arguments if a != "run"], frozenset({"--listen", "--rcfile", "-o", "--source"}))
        return _python(process, arguments[arguments.index("-m") :] if "-m" in arguments else rest, files) or name
    if name == "manage":
        settings = option(arguments, "--settings") or process.environment.get("DJANGO_SETTINGS_MODULE", "")
        found = directory_name(dirname(join(process.cwd, program)))
        return found or (module_name(settings, process.cwd) if settings else "")
    return module_name(program, process.cwd, _MODULE_IS_NAME) if is_module else script_name(program, process.cwd)


def _application_server(process: Process, arguments: Sequence[str], files: Files) -> str:
    """gunicorn, uvicorn and their like: `[OPTION…] MODULE[:APPLICATION]`."""
    if given := option(arguments, "--name", "-n"):
        return given
    cwd = normpath(join(process.cwd, option(arguments, "--chdir", "--app-dir") or "."))
    for argument in arguments:
        if _APPLICATION.fullmatch(argument):
            return module_name(argument, cwd)
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if not argument.startswith("-"):
            return module_name(argument, cwd)
        attached = "=" in argument or argument in _FLAGS_OF_SERVERS or (argument[1] != "-" and len(argument) > 2)
        at += 1 if attached else 2
    return directory_name(cwd)


def _by_option(*names: str, variable: str = "") -> Namer:
    """The application is the value of an option, or of a variable."""

    def namer(process: Process, arguments: Sequence[str], files: Files) -> str:
        given = option(arguments, *names) or process.environment.get(variable, "")
        return module_name(given, process.cwd) if given else directory_name(process.cwd)

    return namer


def _subcommand_file(process: Process, arguments: Sequence[str], files: Files) -> str:
    """`fastapi run shop/main.py`, `streamlit run shop.py`."""
    rest = [a for a in arguments if not a.startswith("-")][1:2]
    return script_name(rest[0], process.cwd) if rest else directory_name(process.cwd)


def _uwsgi(process: Process, arguments: Sequence[str], files: Files) -> str:
    given = option(arguments, "--module", "-w", "--wsgi", "--mount", "--wsgi-file", "--file")
    if given:
        return module_name(given.rpartition("=")[2], process.cwd)
    configuration = option(arguments, "--ini", "--yaml", "--xml", "--json") or next(iter(operands(arguments)), "")
    name = configuration and stem(basename(configuration).rpartition(".")[0] or configuration)
    return name if name and name != "uwsgi" else directory_name(process.cwd)


PYTHON_LAUNCHERS: dict[str, Namer] = {
    **dict.fromkeys(("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve"), _application_server),
    "waitress": _application_server,
    "celery": _by_option("--app", "-A"),
    "flask": _by_option("--app", "-A", variable="FLASK_APP"),
    "django": _by_option("--settings", variable="DJANGO_SETTINGS_MODULE"),
    "django-admin": _by_option("--settings", variable="DJANGO_SETTINGS_MODULE"),
    "fastapi": _subcommand_file,
    "streamlit": _subcommand_file,
}

# ---- JVM ----

_JAVA_VALUED = word_set(
    "-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-exports --add-opens "
    "--add-reads --limit-modules --patch-module --source --enable-native-access -d --describe-module"
)
_JAVA_CLASSES = (
    (re.compile(r"kafka\.Kafka|org\.apache\.kafka\.raft\..*"), "kafka"),
    (re.compile(r"org\.apache\.kafka\.connect\..*"), "kafka-connect"),
    (re.compile(r"org\.apache\.zookeeper\..*"), "zookeeper"),
    (re.compile(r"org\.apache\.cassandra\..*"), "cassandra"),
    (re.compile(r"org\.elasticsearch\..*"), "elasticsearch"),
    (re.compile(r"org\.opensearch\..*"), "opensearch"),
    (re.compile(r"org\.apache\.catalina\.startup\.Bootstrap"), "tomcat"),
    (re.compile(r"org\.eclipse\.jetty\..*"), "jetty"),
    (re.compile(r"org\.apache\.activemq\.artemis\..*"), "artemis"),
    (re.compile(r"org\.logstash\..*"), "logstash"),
    (re.compile(r"org\.apache\.spark\.deploy\.(\w+)\..*"), "spark"),
    (re.compile(r"org\.keycloak\..*|io\.quarkus\.bootstrap\.runner\.QuarkusEntryPoint"), "keycloak"),
)
_JAVA_GENERIC = word_set("Main App Application Server Launcher Bootstrap Start Starter Run Runner Service Daemon")


def java_property(process: Process, name: str) -> str:
    """A system property: of the command line, or of the variables that the JVM adds to it."""
    given = [*process.argv[1:]]
    for variable in ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"):
        given += process.environment.get(variable, "").split()
    return next((a[len(name) + 3 :] for a in given if a.startswith(f"-D{name}=")), "")


def _java(process: Process, arguments: Sequence[str], files: Files) -> str:
    named = java_property(process, "spring.application.name") or option(arguments, "--spring.application.name")
    if named:
        return named
    jar = option([a for a in arguments if a == "-jar" or not a.startswith("-")], "-jar")
    if "-jar" in arguments and jar:
        name = unversioned(stem(jar))
        return name if name.lower() != "app" else script_name(join(dirname(jar), "app.jar"), process.cwd)
    module = option(arguments, "--module", "-m")
    rest = [module.rpartition("/")[2]] if module else operands(arguments, _JAVA_VALUED)
    return _java_class(rest[0]) if rest else ""


def _java_class(main: str) -> str:
    for pattern, name in _JAVA_CLASSES:
        if pattern.fullmatch(main):
            return name
    if main.endswith(".java"):
        return stem(main).removesuffix(".java")
    package, _, simple = main.rpartition(".")
    parts = [part for part in package.split(".") if part not in ("main", "app", "server", "cli", "bootstrap")]
    return parts[-1] if simple in _JAVA_GENERIC and parts else simple


# ---- JavaScript ----

_NODE_VALUED = word_set(
    "-r --require --import --loader --experimental-loader -C --conditions --env-file --title --input-type "
    "--icu-data-dir --openssl-config --redirect-warnings --trace-event-categories --max-http-header-size "
    "--stack-trace-limit"
)
_DENO_VALUED = word_set("-c --config --import-map --lock --cert --location --port --host --env --seed --log-level -L")
_MOST_LEVELS = 32


def _node(process: Process, arguments: Sequence[str], files: Files) -> str:
    if {"-e", "--eval", "-p", "--print"} & set(arguments[:1]):
        return ""
    rest = operands(arguments, _NODE_VALUED)
    return _node_program(process, rest[0] if rest else "", files)


def _node_program(process: Process, script: str, files: Files) -> str:
    path = normpath(join(process.cwd, script)) if script else process.cwd
    # next, nest, vite, ts-node: what they serve is the package in the working directory.
    launched = not script or "/node_modules/" in path or path.startswith(("/usr/lib/", "/usr/share/", "/usr/bin/"))
    start = process.cwd if launched else dirname(path)
    name = package_name(start, files) or process.environment.get("npm_package_name", "").rpartition("/")[2]
    if name:
        return name
    if process.environment.get("pm_id") and process.environment.get("name"):
        return process.environment["name"]
    if launched:
        return stem(script) if script else directory_name(process.cwd)
    return script_name(script, process.cwd)


def package_name(directory: str, files: Files) -> str:
    """The name in the nearest package.json from `directory` upward, without its scope; a nameless one stands for its
    directory. "" if there is none."""
    for _ in range(_MOST_LEVELS):
        for manifest in ("package.json", "deno.json"):
            content = files(join(directory, manifest))
            if content is None:
                continue
            name = _json_name(content)
            if name or manifest == "package.json":
                return name.rpartition("/")[2] or directory_name(directory)
        if directory in ("/", ""):
            return ""
        directory = dirname(directory)
    return ""


def _json_name(content: bytes) -> str:
    try:
        name = json.loads(content).get("name")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _bun_or_deno(process: Process, arguments: Sequence[str], files: Files) -> str:
    rest = operands(arguments, _DENO_VALUED)
    if rest and rest[0] in ("run", "serve", "start", "task", "x", "dev", "test"):
        rest = operands(rest[1:], _DENO_VALUED)
    script = rest[0] if rest and re.search(r"\.[cm]?[jt]sx?$", rest[0]) else ""
    return _node_program(process, script, files)


# ---- the others ----

_RUBY_LAUNCHERS = word_set("puma rails rackup thin unicorn unicorn_rails falcon sidekiq rake bundle passenger spring")
_PERL_LAUNCHERS = word_set("plackup starman starlet hypnotoad morbo")


def _script(valued: str = "", launchers: frozenset[str] = frozenset()) -> Namer:
    """A script; or a launcher of what is in the working directory."""
    with_value = frozenset(valued.split())

    def namer(process: Process, arguments: Sequence[str], files: Files) -> str:
        if any(a in ("-e", "-E", "-c") for a in arguments[:1]):
            return ""
        rest = operands(arguments, with_value)
        if not rest:
            return ""
        name = stem(rest[0])
        return directory_name(process.cwd) or name if name in launchers else script_name(rest[0], process.cwd)

    return namer


def _php(process: Process, arguments: Sequence[str], files: Files) -> str:
    if "-S" in arguments:
        root = option(arguments, "-t")
        return directory_name(join(process.cwd, root)) if root else directory_name(process.cwd)
    rest = operands(arguments, frozenset({"-c", "-d", "-f", "-z"})) or [option(arguments, "-f")]
    name = stem(rest[0])
    # `php artisan serve`, `php bin/console messenger:consume`
    return directory_name(process.cwd) or name if name in ("artisan", "console") else script_name(rest[0], process.cwd)


def _dotnet(process: Process, arguments: Sequence[str], files: Files) -> str:
    valued = word_set(
        "--depsfile --runtimeconfig --additionalprobingpath --fx-version --roll-forward --additional-deps"
    )
    rest = operands(arguments, valued)
    if rest and rest[0] == "exec":
        rest = operands(rest[1:], valued)
    if rest and rest[0] in ("run", "watch"):
        project = option(rest, "--project", "-p")
        return stem(project).removesuffix(".csproj") if project else directory_name(process.cwd)
    return script_name(rest[0], process.cwd) if rest and rest[0].endswith((".dll", ".exe")) else ""


def _beam(process: Process, arguments: Sequence[str], files: Files) -> str:
    """Erlang and Elixir: the release, the node's name, the module that is started, the program after `-extra`."""
    if release := process.environment.get("RELEASE_NAME"):
        return release
    node = (option([a for a in arguments if a != "-noshell"], "-sname") or option(arguments, "-name")).partition("@")[0]
    if node:
        return "rabbitmq" if node == "rabbit" else node
    if "-extra" in arguments:
        rest = [a for a in arguments[list(arguments).index("-extra") + 1 :] if not a.startswith("-")]
        if rest:
            name = stem(rest[0])
            return directory_name(process.cwd) or name if name in ("mix", "iex") else script_name(rest[0], process.cwd)
    started = [a for at, a in enumerate(arguments) if at and arguments[at - 1] in ("-s", "-run", "-eval_module")]
    return next((a for a in started if a not in ("elixir", "init")), "")


def _loader(process: Process, arguments: Sequence[str], files: Files) -> str:
    """`/lib64/ld-linux-x86-64.so.2 --library-path P /opt/foo`."""
    rest = operands(arguments, frozenset({"--library-path", "--preload", "--argv0", "--audit", "--inhibit-rpath"}))
    return script_name(rest[0], process.cwd) if rest else ""


def _shell(process: Process, arguments: Sequence[str], files: Files) -> str:
    if any(re.fullmatch(r"-[a-z]*c", a) for a in arguments[:3]):
        return ""
    rest = operands(arguments, frozenset({"-o", "-O", "--rcfile", "--init-file"}))
    return script_name(rest[0], process.cwd) if rest else ""


def _runtime(program: str, name: str, namer: Namer) -> Runtime:
    return Runtime(re.compile(program), name, namer)


RUNTIMES = (
    _runtime(r"python[\d.]*[dmt]?", "cpython", _python),
    _runtime(r"pypy[\d.]*(-c)?", "pypy", _python),
    _runtime(r"uwsgi(-core|_python[\d.]*)?", "", _uwsgi),
    _runtime(r"java", "", _java),
    _runtime(r"node(js)?[\d.]*", "nodejs", _node),
    _runtime(r"bun", "bun", _bun_or_deno),
    _runtime(r"deno", "deno", _bun_or_deno),
    _runtime(r"j?ruby[\d.]*", "ruby", _script("-I -r -C -E -F -K -W", _RUBY_LAUNCHERS)),
    _runtime(r"php[\d.]*", "php", _php),
    _runtime(r"dotnet", "dotnet", _dotnet),
    _runtime(r"mono(-sgen)?", "mono", _script("--config --runtime")),
    _runtime(r"beam(\.smp)?", "BEAM", _beam),
    _runtime(r"perl[\d.]*", "perl", _script("-I -M", _PERL_LAUNCHERS)),
    _runtime(r"lua(jit)?[\d.]*|tclsh[\d.]*|guile[\d.]*|Rscript|escript", "", _script()),
    _runtime(r"(ba|da|z|a|k|fi)?sh", "", _shell),
    _runtime(r"ld-linux.*|ld-musl.*|ld-\d.*", "", _loader),
)
"""Tried in order; `fullmatch` of the executable's name."""
