"""What a person would call a process: one row per kind of program."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.resource.describe import build_of
from otel_ebpf.resource.gobuild import GoBuild, go_build
from otel_ebpf.resource.names import Guess, guess, program_name
from otel_ebpf.resource.procfs import Process, files_of, read
from otel_ebpf.resource.words import directory_name, operands, option, script_name, unversioned

PYTHON, NODE, JAVA, RUBY, PHP = (
    "/usr/bin/python3.11",
    "/usr/bin/node",
    "/usr/lib/jvm/java-17/bin/java",
    "/usr/bin/ruby3.1",
    "/usr/bin/php8.2",
)
BEAM = "/usr/lib/erlang/erts-13/bin/beam.smp"


def name(
    command: str | list[str], exe: str = "", cwd: str = "/", files: dict[str, str] | None = None, **environment: str
) -> str:
    argv = tuple(command.split() if isinstance(command, str) else command)
    process = Process(1, argv=argv, executable=exe, cwd=cwd, environment=environment, comm="comm")
    contents = {path: text.encode() for path, text in (files or {}).items()}
    return guess(process, contents.get).name


@pytest.mark.parametrize(
    ("command", "cwd", "expected"),
    [
        # scripts and modules
        ("python3 app.py", "/srv/shop", "shop"),
        ("python3 app.py", "/", "app"),
        ("python3 app.py", "/home/ann", "app"),
        ("python3 app.py", "/srv/shop/src", "shop"),
        ("python3 /srv/shop/releases/20240102/main.py", "/", "shop"),
        ("python3 worker.py", "/srv/shop", "worker"),
        ("python3 -u -W error -X dev consumer.py --queue q", "/srv/shop", "consumer"),
        ("python3 manage.py runserver 0:8000", "/srv/shop", "shop"),
        ("python3 -m http.server 8000", "/srv/shop", "http.server"),
        ("python3 -mhttp.server", "/", "http.server"),
        ("python3 -m shop", "/", "shop"),
        ("python3 -m shop.__main__", "/", "shop"),
        ("python3 -m shop.api", "/", "shop.api"),
        ("python3 -c pass", "/srv/shop", "python3.11"),
        ("python3", "/srv/shop", "python3.11"),
        ("python3 /usr/bin/supervisord -n", "/", "supervisord"),
        # application servers
        ("/usr/bin/python3 /usr/local/bin/gunicorn shop.wsgi", "/", "shop"),
        (
            "python3 /usr/bin/gunicorn -w 4 -b 0.0.0.0:80 -k uvicorn.workers.UvicornWorker shop.wsgi:application",
            "/",
            "shop",
        ),
        ("python3 /usr/bin/gunicorn -w4 --preload shop.wsgi", "/", "shop"),
        ("python3 /usr/bin/gunicorn --name checkout -b :80 shop.wsgi", "/", "checkout"),
        ("python3 /usr/bin/gunicorn -c python:conf.gunicorn app:app", "/srv/cart", "cart"),
        ("python3 /usr/bin/gunicorn --chdir /srv/cart wsgi", "/", "cart"),
        ("python3 /usr/bin/uvicorn main:app --host 0.0.0.0", "/srv/cart", "cart"),
        ("python3 -m uvicorn --port 80 shop.main:app", "/", "shop"),
        ("python3 /usr/bin/uvicorn app.main:create_app --factory", "/srv/cart", "cart"),
        ("python3 -m gunicorn acme.billing.api:app", "/", "acme.billing.api"),
        ("python3 /usr/bin/hypercorn shop.asgi:application", "/", "shop"),
        ("python3 /usr/bin/daphne -b 0.0.0.0 -p 80 shop.asgi:application", "/", "shop"),
        ("python3 /usr/bin/waitress-serve --port=80 shop.wsgi:app", "/", "shop"),
        ("python3 /usr/bin/celery -A shop worker -l info", "/", "shop"),
        ("python3 -m celery --app=shop.celery_app worker", "/", "shop.celery_app"),
        ("python3 /usr/bin/flask --app shop run", "/", "shop"),
        ("python3 -m flask run", "/srv/shop", "shop"),
        ("python3 /usr/bin/fastapi run shop/main.py", "/srv", "shop"),
        ("python3 /usr/bin/streamlit run sales.py", "/", "sales"),
        ("python3 -m coverage run -m shop.web", "/", "shop.web"),
        ("python3 -m debugpy --listen 5678 worker.py", "/", "worker"),
        ("python3 -m cProfile -o out worker.py", "/", "worker"),
    ],
)
def test_python(command: str, cwd: str, expected: str) -> None:
    assert name(command, PYTHON, cwd) == expected


def test_python_applications_named_by_variables() -> None:
    assert name("python3 /usr/bin/flask run", PYTHON, FLASK_APP="shop.app:create_app") == "shop"
    assert name("python3 /usr/bin/django-admin runserver", PYTHON, DJANGO_SETTINGS_MODULE="shop.settings") == "shop"
    assert name("python3 manage.py runserver", PYTHON, DJANGO_SETTINGS_MODULE="shop.settings") == "shop"


@pytest.mark.parametrize(
    ("title", "exe", "cwd", "expected"),
    [
        ("gunicorn: master [shop.wsgi:application]", PYTHON, "/", "shop"),
        ("gunicorn: worker [checkout]", PYTHON, "/", "checkout"),
        ("gunicorn: worker [gunicorn]", PYTHON, "/", "gunicorn"),
        ("[celeryd: celery@host:MainProcess] -active- (worker -A shop -l info)", PYTHON, "/", "shop"),
        ("puma 6.4.0 (tcp://0.0.0.0:3000) [shop]", RUBY, "/", "shop"),
        ("puma: cluster worker 0: 4711 [shop]", RUBY, "/", "shop"),
        ("sidekiq 7.2.0 shop [0 of 5 busy]", RUBY, "/", "shop"),
        ("unicorn master -c config/unicorn.rb", RUBY, "/srv/shop/current", "shop"),
        ("Passenger RubyApp: /srv/shop/public (production)", RUBY, "/", "shop"),
        ("php-fpm: pool shop", "/usr/sbin/php-fpm8.2", "/", "shop"),
        ("php-fpm: pool www", "/usr/sbin/php-fpm8.2", "/", "php-fpm"),
        ("php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "/usr/sbin/php-fpm8.2", "/", "php-fpm"),
        ("nginx: worker process", "/usr/sbin/nginx", "/", "nginx"),
        ("postgres: shop app 127.0.0.1(5555) SELECT", "/usr/lib/postgresql/15/bin/postgres", "/", "postgres"),
        ("postgres: checkpointer", "/usr/lib/postgresql/15/bin/postgres", "/", "postgres"),
        ("redis-server *:6379", "/usr/bin/redis-check-rdb", "/", "redis-server"),
        ("PM2 v5.3.0: God Daemon (/root/.pm2)", NODE, "/", "PM2"),
        ("next-server (v14.1.0)", NODE, "/srv/cart", "cart"),
        ("npm start", NODE, "/srv/cart", "cart"),
    ],
)
def test_programs_that_rewrite_their_title(title: str, exe: str, cwd: str, expected: str) -> None:
    assert name([title], exe, cwd) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("java -jar billing-1.2.jar", "billing"),
        ("java -Xmx1g -Dx=y -jar /opt/acme/order-service-2.0.1-SNAPSHOT.jar --port=80", "order-service"),
        ("java -jar order-service-1.0.0.RELEASE-exec.jar", "order-service"),
        ("java -jar billing-jar-with-dependencies.jar", "billing"),
        ("java -jar /opt/billing/app.jar", "billing"),
        ("java -jar /app.jar", "app"),
        ("java -Dspring.application.name=billing -jar app.jar", "billing"),
        ("java -jar app.jar --spring.application.name=billing", "billing"),
        ("java -cp a.jar:b.jar com.acme.BillingService start", "BillingService"),
        ("java -classpath x com.acme.billing.Main", "billing"),
        ("java --module-path mods --module com.acme/com.acme.shop.Shop", "Shop"),
        ("java -Xmx1g -cp libs/* kafka.Kafka server.properties", "kafka"),
        ("java -cp x org.apache.zookeeper.server.quorum.QuorumPeerMain zoo.cfg", "zookeeper"),
        ("java -cp x org.apache.cassandra.service.CassandraDaemon", "cassandra"),
        ("java -cp x org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch", "elasticsearch"),
        ("java -Dcatalina.base=/srv/t -cp x org.apache.catalina.startup.Bootstrap start", "tomcat"),
        ("java Shop.java", "Shop"),
        ("java -version", "java"),
    ],
)
def test_java(command: str, expected: str) -> None:
    assert name(command, JAVA) == expected


CART = {"/srv/cart/package.json": json.dumps({"name": "@acme/cart"})}


@pytest.mark.parametrize(
    ("command", "cwd", "files", "expected"),
    [
        ("node server/index.js", "/srv/cart", CART, "cart"),
        ("node /srv/cart/server/index.js", "/", CART, "cart"),
        ("node -r dotenv/config --import ./otel.mjs index.js", "/srv/cart", CART, "cart"),
        ("node /srv/cart/node_modules/.bin/next start", "/srv/cart", CART, "cart"),
        ("node /usr/lib/node_modules/npm/bin/npm-cli.js start", "/srv/cart", CART, "cart"),
        ("node index.js", "/srv/cart", {"/srv/cart/package.json": "{}"}, "cart"),
        ("node index.js", "/srv/cart", {"/srv/cart/package.json": "not json"}, "cart"),
        ("node index.js", "/srv/cart", {}, "cart"),
        ("node consumer.js", "/srv/cart", {}, "consumer"),
        ("node -e 1", "/srv/cart", CART, "node"),
        ("node", "/", {}, "node"),
    ],
)
def test_node(command: str, cwd: str, files: dict[str, str], expected: str) -> None:
    assert name(command, NODE, cwd, files) == expected


def test_node_under_pm2_without_a_package_is_called_as_pm2_calls_it() -> None:
    assert name("node /srv/x/index.js", NODE, pm_id="0", name="cart") == "cart"


@pytest.mark.parametrize(
    ("command", "exe", "cwd", "expected"),
    [
        ("bun run server.ts", "/usr/bin/bun", "/srv/cart", "cart"),
        ("bun orders.ts", "/usr/bin/bun", "/srv", "orders"),
        ("deno run -A --port 80 main.ts", "/usr/bin/deno", "/srv/cart", "cart"),
        ("ruby app.rb", RUBY, "/srv/shop", "shop"),
        ("ruby3.1 /usr/bin/puma -p 80", RUBY, "/srv/shop", "shop"),
        ("ruby bin/rails server", RUBY, "/srv/shop", "shop"),
        ("ruby -I lib mailer.rb", RUBY, "/", "mailer"),
        ("php artisan serve", PHP, "/srv/shop", "shop"),
        ("php -S 127.0.0.1:80 -t public", PHP, "/srv/shop", "shop"),
        ("php -d x=1 worker.php", PHP, "/", "worker"),
        ("php bin/console messenger:consume", PHP, "/srv/shop", "shop"),
        ("dotnet Foo.dll", "/usr/share/dotnet/dotnet", "/", "Foo"),
        ("dotnet exec --depsfile a /app/Shop.Web.dll", "/usr/share/dotnet/dotnet", "/", "Shop.Web"),
        ("dotnet app.dll", "/usr/share/dotnet/dotnet", "/srv/shop", "shop"),
        ("dotnet run --project src/Shop.Api", "/usr/share/dotnet/dotnet", "/", "Shop.Api"),
        ("Shop.Api --urls x", "/app/Shop.Api", "/", "Shop.Api"),
        ("mono app.exe", "/usr/bin/mono-sgen", "/srv/shop", "shop"),
        (
            f"{BEAM} -- -root /usr/lib/erlang -progname erl -- -noshell -sname rabbit@h -s rabbit boot",
            BEAM,
            "/",
            "rabbitmq",
        ),
        (f"{BEAM} -- -root /x -- -home /root -- -name shop@127.0.0.1", BEAM, "/", "shop"),
        (f"{BEAM} -- -root /x -- -s elixir start_cli -extra /usr/bin/mix phx.server", BEAM, "/srv/shop", "shop"),
        (f"{BEAM} -- -root /x -- -noshell -s cowboy_app start", BEAM, "/", "cowboy_app"),
        (f"{BEAM} -- -root /x", BEAM, "/", "beam.smp"),
        ("perl -I lib crawler.pl", "/usr/bin/perl", "/", "crawler"),
        ("perl /usr/bin/plackup app.psgi", "/usr/bin/perl", "/srv/shop", "shop"),
        ("Rscript plumber.R", "/usr/bin/Rscript", "/", "plumber"),
        ("uwsgi --http :80 --module shop.wsgi:application", "/usr/bin/uwsgi-core", "/", "shop"),
        ("uwsgi --ini /etc/uwsgi/shop.ini", "/usr/bin/uwsgi-core", "/", "shop"),
        ("bash backup.sh", "/usr/bin/bash", "/", "backup"),
        ("sh /srv/shop/start.sh", "/usr/bin/dash", "/", "shop"),
        ("bash -lc curl", "/usr/bin/bash", "/", "bash"),
        ("bash /dev/fd/3", "/usr/bin/bash", "/", "bash"),
        ("-bash", "/usr/bin/bash", "/", "bash"),
        ("/lib64/ld-linux-x86-64.so.2 --library-path /x /opt/foo/foo", "/usr/lib/ld-linux-x86-64.so.2", "/", "foo"),
    ],
)
def test_other_runtimes(command: str, exe: str, cwd: str, expected: str) -> None:
    assert name(command, exe, cwd) == expected


@pytest.mark.parametrize(
    ("command", "exe", "cwd", "expected"),
    [
        ("nginx -g daemon", "/usr/sbin/nginx", "/", "nginx"),
        ("redis-server", "/usr/bin/redis-server", "/", "redis-server"),
        ("mysqld --user=mysql", "/usr/sbin/mysqld", "/", "mysqld"),
        ("mariadbd", "/usr/sbin/mariadbd", "/", "mariadbd"),
        ("named -g", "/usr/sbin/named", "/", "named"),
        ("checkout", "/opt/acme/bin/checkout", "/", "checkout"),
        ("./server", "/srv/checkout/bin/server", "/", "checkout"),
        ("./main", "/main", "/srv/checkout", "checkout"),
        ("/tmp/go-build12/b001/exe/main", "/tmp/go-build12/b001/exe/main", "/srv/checkout", "checkout"),
        ("httpd -f", "/bin/busybox", "/", "httpd"),
        ("shop", "", "/", "shop"),
        ("x", "/nix/store/abc/bin/.grafana-wrapped", "/", "grafana"),
        ("", "", "/", "comm"),
    ],
)
def test_programs(command: str, exe: str, cwd: str, expected: str) -> None:
    assert name(command, exe, cwd) == expected


def test_a_go_program_without_a_name_of_its_own_is_called_by_its_module() -> None:
    process = Process(1, argv=("/app/server",), executable="/app/server")
    build = GoBuild("go1.22.1", "github.com/acme/shop/v2")
    assert guess(process, go=lambda: build) == Guess("shop", "go", "go1.22.1")
    named = Process(1, argv=("checkout",), executable="/app/checkout")
    assert guess(named, go=lambda: build).name == "checkout"


def test_build_information_of_a_real_go_program() -> None:
    with Path(GO).open("rb") as file:
        build = go_build(file.fileno())
    assert build is not None and build.version.startswith("go1.")
    assert build_of(read_self().pid) is None


def test_build_information_says_which_version_of_a_module_is_linked() -> None:
    said = (
        "path\tshop\nmod\tshop\t(devel)\ndep\ta.test/x\tv1.2.0\th1:=\ndep\ta.test/y\tv1.3.0\n=>\t./y\t\ndep\ta.test/z"
    )
    build = GoBuild("go1.22.1", "shop", said)
    assert build.version_of("a.test/x") == "v1.2.0"
    assert [build.version_of(module) for module in ("a.test/y", "a.test/z", "a.test", "shop", "")] == [""] * 5


GO = shutil.which("go") or "go is not installed"
with Path(GO).open("rb") as _file:
    REAL = _file.read(8192)


def read_self() -> Process:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = read(process.pid)
        assert found is not None
        return found
    finally:
        process.communicate(b"\n")


@given(st.binary(max_size=600), st.integers(0, 4096))
def test_a_damaged_executable_is_no_go_program(noise: bytes, at: int) -> None:
    head = bytearray(REAL[:8192])
    head[at : at + len(noise)] = noise
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.flush()
        go_build(file.fileno())


def test_real_processes_in_real_directories(tmp_path: Path) -> None:
    home = tmp_path / "checkout"
    home.mkdir()
    (home / "app.py").write_text("input()")
    (home / "server").mkdir()
    (home / "server" / "index.js").write_text("process.stdin.resume()")
    (home / "package.json").write_text('{"name": "@acme/cart"}')
    commands = {
        "checkout": [sys.executable, "app.py"],
        "http.server": [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"],
        "cart": ["node", "server/index.js"],
        "sleep": ["sleep", "60"],
    }
    for expected, command in commands.items():
        process = subprocess.Popen(command, cwd=home, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            found = read(process.pid)
            while found is not None and not found.argv:  # Popen returns in the middle of execve(2)
                found = read(process.pid)
            assert found is not None
            assert guess(found, files_of(process.pid)).name == expected
        finally:
            process.kill()
            process.communicate()


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = st.one_of(
    TEXT,
    st.sampled_from(
        ["-m", "-c", "-jar", "-S", "--", "-", "=", "-extra", "run", "exec", "coverage", "gunicorn", "--name"]
    ),
)


@given(
    st.lists(WORDS, max_size=6),
    st.sampled_from(
        [PYTHON, NODE, JAVA, RUBY, PHP, BEAM, "/bin/bun", "/bin/dotnet", "/bin/uwsgi", "/bin/sh", "", "/main"]
    ),
    TEXT,
)
def test_no_command_line_breaks_it_and_every_process_has_a_name(argv: list[str], exe: str, cwd: str) -> None:
    process = Process(1, argv=tuple(argv), executable=exe, cwd=f"/{cwd}")
    found = guess(process).name
    assert found and found.isprintable() and len(found) <= 255


def test_words() -> None:
    assert directory_name("/opt/acme/shop-1.2/bin") == "shop-1.2"
    assert directory_name("/srv/550e8400-e29b-41d4-a716-446655440000") == ""
    assert directory_name("relative") == ""
    assert script_name("../worker.py", "/srv/x") == "worker"
    assert unversioned("1.2.3") == "1.2.3"
    assert option(["-n", "a"], "--name", "-n") == option(["-na"], "-n") == option(["--name=a"], "--name") == "a"
    assert operands(["--", "-x"]) == ["-x"]
    assert program_name(Process(1, comm="kworker")) == "kworker"
