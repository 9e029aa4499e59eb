"""Writes tests/unit/data/fastcgi.txt: what nginx and PHP-FPM say to each other.

python -m tests.tools.record_fastcgi tests/unit/data/fastcgi.txt
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.processes import answers, free_port, running, scratch
from tests.servers import nginx
from tests.tools.recorder import record

SCRIPT = b"""<?php
if ($_SERVER['REQUEST_URI'] == '/gone') { http_response_code(410); }
if ($_SERVER['REQUEST_URI'] == '/broken') { error_log('oh'); http_response_code(500); }
echo str_repeat('x', intval($_GET['n'] ?? '2'));
"""
POOL = """[global]
daemonize = no
error_log = {folder}/log
[www]
user = nobody
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 1
catch_workers_output = yes
"""
KEEP = "fastcgi_keep_conn on;"
LOCATION = """location / {{ fastcgi_pass 127.0.0.1:{port}; fastcgi_param SCRIPT_FILENAME {script}; {more}
  include /etc/nginx/fastcgi_params; }}"""


def main() -> None:
    (fpm,) = sorted(Path("/usr/sbin").glob("php-fpm*"))[-1:]
    with scratch() as folder:
        script, pool, port = folder / "index.php", folder / "pool.conf", free_port()
        script.write_bytes(SCRIPT)
        pool.write_text(POOL.format(folder=folder, port=port))

        def ask(proxy: int, path: str, more: str = "", body: bytes | None = None, method: str | None = None) -> None:
            with (
                nginx(locations=LOCATION.format(port=proxy, script=script, more=more)) as web,
                suppress(urllib.error.HTTPError),
            ):
                urllib.request.urlopen(urllib.request.Request(web.url + path, body, method=method), timeout=10).read()

        with running([str(fpm), "-F", "-y", str(pool)], answers(port), log=folder / "output"):
            record(
                ("127.0.0.1", port),
                [
                    ("get", lambda proxy: ask(proxy, "/hello?n=3")),
                    ("kept connection", lambda proxy: ask(proxy, "/kept", KEEP)),
                    ("post", lambda proxy: ask(proxy, "/form", body=b"a=1&b=2")),
                    ("not found", lambda proxy: ask(proxy, "/gone")),
                    ("failed", lambda proxy: ask(proxy, "/broken")),
                    ("put", lambda proxy: ask(proxy, "/items/1", body=b"{}", method="PUT")),
                    ("delete", lambda proxy: ask(proxy, "/items/2", method="DELETE")),
                    ("head", lambda proxy: ask(proxy, "/items/3", method="HEAD")),
                    ("secret", lambda proxy: ask(proxy, "/login?token=s3cr3t&n=1")),
                    ("escaped", lambda proxy: ask(proxy, "/a%20b/%C3%A9?q=%22")),
                    ("long answer", lambda proxy: ask(proxy, "/long?n=5000")),
                ],
                Path(sys.argv[1]),
            )


if __name__ == "__main__":
    main()
