"""Which words name a service and which do not: `shop` does, `main`, `app` and `src` do not.

Pure functions of text; a path is walked upward until something in it is a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from posixpath import basename, dirname, join, normpath


def word_set(text: str) -> frozenset[str]:
    """The words of a text with spaces: how tables of names are written here."""
    return frozenset(text.split())


GENERIC_PROGRAMS = word_set(
    "__debug_bin __init__ __main__ app application asgi boot bootstrap bundle cli daemon entry entrypoint exe "
    "docker-entrypoint index init launch launcher main manage out program run runner runserver serve server "
    "service start start-server startup test wsgi"
)
"""What a program is called that has no name of its own; its directory is asked instead."""
GENERIC_MODULES = GENERIC_PROGRAMS | word_set("conf config core project settings src web")
GENERIC_DIRECTORIES = word_set(
    "app apps application bin b001 build classes cmd code current config data debug deploy dist exe home html "
    "htdocs install lib lib64 libexec libs local main media mnt node_modules opt out output project public release "
    "releases root run sbin script scripts server site site-packages sites source src srv static target test tests tmp "
    "usr var venv wheelhouse work workdir workspace www .next .output .venv __pycache__ jar jars versions"
)
_NO_NAME = re.compile(
    # Versions, dates, hashes, UUIDs, temporary directories: the name of a release, not of a service.
    r"v?\d[\d._-]*|[0-9a-f]{7,64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|go-build.*|tmp[a-z0-9_]{6,10}|python\d.*"
)
_VERSION = re.compile(
    r"([-_.](v?\d+([._]\d+)*[a-z]?|SNAPSHOT|RELEASE|FINAL|GA|all|exec|boot|fat|shaded|uber|standalone|runner|"
    r"jar-with-dependencies|(rc|m|alpha|beta|b)[.-]?\d*))+$",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r"\.(py|pyc|pyz|pex|rb|ru|php|phar|pl|psgi|js|mjs|cjs|jsx|ts|mts|cts|tsx|lua|R|sh|bash|dll|exe|jar|war|exs?)$"
)


def stem(path: str) -> str:
    """A program's file name without directory and without the ending that tells its language.

    >>> stem("/srv/shop/server.js")
    'server'
    """
    return _SUFFIX.sub("", basename(path))


def unversioned(name: str) -> str:
    """A file name without version and kind of build.

    >>> unversioned("billing-1.2.3-SNAPSHOT-jar-with-dependencies")
    'billing'
    """
    base = _VERSION.sub("", name)
    return base if base and not base.isdecimal() else name


def directory_name(path: str) -> str:
    """The nearest directory, from `path` upward, whose name is one; "" if there is none.

    >>> directory_name("/srv/shop/src"), directory_name("/home/ann")
    ('shop', '')
    """
    path = normpath(path) if path.startswith("/") else ""
    while path and path != "/":
        name = basename(path)
        if dirname(path) == "/home":
            return ""
        if name.lower() not in GENERIC_DIRECTORIES and not _NO_NAME.fullmatch(name):
            return name.removesuffix(".git")
        path = dirname(path)
    return ""


def script_name(script: str, cwd: str) -> str:
    """What a script is called: by its own name, or by its directory's if its own says nothing; "" if it is a pipe.

    >>> script_name("worker.py", "/srv/shop"), script_name("app.py", "/srv/shop"), script_name("app.py", "/")
    ('worker', 'shop', 'app')
    """
    name = stem(script)
    if script.startswith(("/dev/", "/proc/")):
        return ""
    if name.lower() not in GENERIC_PROGRAMS:
        return name
    return directory_name(dirname(join(cwd, script))) or directory_name(cwd) or name


def module_name(module: str, cwd: str, generic: frozenset[str] = GENERIC_MODULES) -> str:
    """What a module of Python, or an application in it, is called.

    >>> module_name("shop.wsgi:application", "/"), module_name("main:app", "/srv/cart")
    ('shop', 'cart')
    """
    module = module.partition(":")[0]
    module = stem(module) if "/" in module or module.endswith(".py") else module
    parts = [part for part in module.split(".") if part]
    while parts and parts[-1].lower() in generic:
        parts.pop()
    while len(parts) > 1 and parts[0].lower() in GENERIC_DIRECTORIES:
        parts.pop(0)
    return ".".join(parts) or directory_name(cwd) or module


def operands(arguments: Sequence[str], valued: frozenset[str] = frozenset()) -> list[str]:
    """The arguments from the first on that is neither an option nor the value of one. valued: options with a value.

    >>> operands(["-W", "error", "-u", "app.py", "-x"], frozenset({"-W"}))
    ['app.py', '-x']
    """
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return list(arguments[at + 1 :])
        if not argument.startswith("-") or argument == "-":
            return list(arguments[at:])
        at += 2 if argument in valued else 1
    return []


def option(arguments: Sequence[str], *names: str) -> str:
    """The value of an option, however it is written: `-n x`, `-nx`, `--name x`, `--name=x`; "" if it is not there."""
    for at, argument in enumerate(arguments):
        for name in names:
            if argument == name:
                return arguments[at + 1] if at + 1 < len(arguments) else ""
            if argument.startswith(f"{name}="):
                return argument[len(name) + 1 :]
            if len(name) == 2 and not argument.startswith("--") and argument.startswith(name):
                return argument[2:]
    return ""


def clean(name: str) -> str:
    """A name fit to be shown: printable, one line, at most 255 characters."""
    return "".join(c if c.isprintable() else " " for c in name).strip()[:255].strip()
