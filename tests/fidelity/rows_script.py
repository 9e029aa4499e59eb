"""Ruby and PHP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fidelity.row import SEQUENTIAL, Row, apt, present, program
from tests.fidelity.site import Site
from tests.servers import mariadb, nginx

_POOL = """[global]
error_log = {folder}/php-fpm.log
daemonize = no
[www]
user = www-data
group = www-data
listen = {folder}/php.sock
listen.mode = 0666
pm = static
pm.max_children = 8
env[DATABASE_PORT] = {database}
"""
_LOCATION = """location / {{
  fastcgi_pass unix:{folder}/php.sock;
  fastcgi_param SCRIPT_FILENAME {script};
  fastcgi_param REQUEST_URI $request_uri;
  fastcgi_param REQUEST_METHOD $request_method;
  fastcgi_param QUERY_STRING $query_string;
  fastcgi_param CONTENT_LENGTH $content_length;
}}"""


@contextmanager
def _php(site: Site) -> Iterator[None]:
    """nginx → PHP-FPM over a unix socket → MariaDB."""
    site.unfiltered = True
    script = site.folder / "index.php"
    script.write_bytes((Path(__file__).with_name("apps") / "php_fpm" / "index.php").read_bytes())
    with mariadb() as database:
        site.adopt("mariadb", database.pid, judged=False)
        pool = site.folder / "pool.conf"
        pool.write_text(_POOL.format(folder=site.folder, database=database.port))
        (fpm,) = sorted(Path("/usr/sbin").glob("php-fpm*"))[-1:]
        listening = (site.folder / "php.sock").exists
        with (
            site.run("php-fpm", [str(fpm), "-F", "-y", str(pool)], ready=listening),
            nginx(locations=_LOCATION.format(folder=site.folder, script=script), port=site.front()) as web,
        ):
            site.adopt("nginx", web.pid, calls=1)
            yield


def _puma(name: str, what: str, threads: int, rate: float, quick: tuple[str, ...] = ()) -> Row:
    command = ("puma", "--quiet", "--threads", f"{threads}:{threads}", "--bind", "tcp://127.0.0.1:{port}")
    start = program(*command, "{apps}/ruby_puma/config.ru", environment={"BACKEND": "{backend}"})
    return Row(name, "Ruby", what, start, rate=rate, needs=(apt("puma", "puma"),), quick=quick)


ROWS = (
    _puma("ruby-puma", "Puma's thread pool, Net::HTTP", 16, 100, quick=(SEQUENTIAL,)),
    _puma("ruby-puma-queued", "the same with 5 threads: requests wait for them", 5, 45),
    Row(
        "php-fpm",
        runtime="PHP",
        what="nginx → PHP-FPM (unix socket) → MariaDB",
        start=_php,
        quick=(SEQUENTIAL,),
        rate=60,
        needs=(
            apt("nginx", "nginx"),
            apt("mariadbd", "mariadb-server"),
            present("/usr/sbin/php-fpm*", "apt-get install php-fpm"),
            present("/usr/lib/php/*/mysqli.so", "apt-get install php-mysql"),
        ),
    ),
)
