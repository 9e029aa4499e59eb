"""Records what real SQL clients and servers say to each other, as fixtures for the tests of the protocol modules.

    python -m tests.tools.record_sql postgresql HOST:PORT tests/unit/data/postgresql.txt
    python -m tests.tools.record_sql mysql HOST:PORT tests/unit/data/mysql.txt

It runs each scenario below against a real server (tests/tools/recorder.py says what is written). The clients are no
dependency of the project:

    pip install psycopg[binary] psycopg2-binary pg8000 asyncpg PyMySQL mysql-connector-python   # and psql, mariadb

PostgreSQL 15: database and user "postgres", trust authentication, a table users (id int primary key, name text) with
rows 1 alice and 2 bob, a role "scram" with password "secret" that pg_hba.conf asks for, ssl = on, wal_level = logical.
MariaDB 10.11: user root without password, the same table in database shop, a procedure add_user(int, varchar) that
inserts into it, local_infile on, ssl_cert and ssl_key set.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from tests.tools.recorder import record, run

# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def psql(text: str, database: str = "postgres", *more: str) -> Callable[[int], None]:
    return lambda port: run(
        "psql", "-X", f"host=127.0.0.1 port={port} user=postgres dbname={database}", *more, text=text
    )


def psql_scram(port: int) -> None:
    run("psql", "-X", f"host=127.0.0.1 port={port} user=scram password=secret dbname=postgres", "-c", "SELECT 1")
    run("psql", "-X", f"host=127.0.0.1 port={port} user=scram password=wrong dbname=postgres", "-c", "SELECT 1")


def psql_path(port: int) -> None:
    run(
        "psql",
        "-X",
        f"host=127.0.0.1 port={port} user=postgres dbname=postgres options='-c search_path=shop,public'",
        "-c",
        "SELECT 7",
    )


def psycopg3(port: int) -> None:
    import psycopg

    with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres") as conn:
        conn.autocommit = True
        conn.execute("SELECT name FROM users WHERE id = %s", (1,)).fetchall()
        for i in range(7):  # prepared from the fifth on
            conn.execute("SELECT id FROM users WHERE name = %s", (f"u{i}",), prepare=None).fetchall()
        conn.cursor().executemany("INSERT INTO users (id, name) VALUES (%s, %s)", [(10 + i, "x") for i in range(3)])
        with contextlib.suppress(psycopg.Error):
            conn.execute("SELECT 1 / %s", (0,))
        with contextlib.suppress(psycopg.Error):
            conn.execute("SELECT * FROM missing WHERE id = %s", (0,))
        with conn.transaction():
            conn.execute("UPDATE users SET name = %s WHERE id = 10", ("y",))


def psycopg3_pipeline(port: int) -> None:
    import psycopg

    with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres") as conn:
        conn.autocommit = True
        with conn.pipeline() as pipeline:
            one = conn.execute("SELECT %s::int", (1,))
            pipeline.sync()
            two = conn.execute("SELECT name FROM users WHERE id = %s", (2,))
            pipeline.sync()
            one.fetchall()
            two.fetchall()


def psycopg3_copy(port: int) -> None:
    import psycopg

    with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres") as conn:
        conn.autocommit = True
        for rows in ([(100, "a"), (101, "b")], [(100, "duplicate")]):
            with contextlib.suppress(psycopg.Error), conn.cursor().copy("COPY users (id, name) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        with conn.cursor().copy("COPY (SELECT * FROM users) TO STDOUT") as copy:
            list(copy)


def psycopg3_cursor(port: int) -> None:
    import psycopg

    address = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    with psycopg.connect(address) as conn, conn.cursor("named") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT id FROM users ORDER BY id")
        cursor.fetchmany(2)


def pg8000(port: int) -> None:
    import pg8000.native

    # 'N' is the answer to its SSLRequest: it goes on without TLS
    conn = pg8000.native.Connection("postgres", host="127.0.0.1", port=port, database="postgres", ssl_context=False)
    conn.run("SELECT name FROM users WHERE id = :id", id=1)
    statement = conn.prepare("SELECT id FROM users WHERE name = :name")
    statement.run(name="alice")
    statement.run(name="bob")
    statement.close()
    conn.close()


def asyncpg(port: int) -> None:
    import asyncpg as library

    async def main() -> None:
        conn = await library.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False)
        await conn.fetch("SELECT name FROM users WHERE id = $1", 1)
        await conn.fetch("SELECT name FROM users WHERE id = $1", 2)
        await conn.execute("DELETE FROM users WHERE id = 999")
        async with conn.transaction():
            cursor = await conn.cursor("SELECT id FROM users ORDER BY id")
            await cursor.fetch(2)
            await cursor.fetch(2)
        with contextlib.suppress(library.PostgresError):
            await conn.fetch("SELECT * FROM missing")
        await conn.close()

    asyncio.run(main())


def function_call(port: int) -> None:
    import psycopg2

    conn = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
    large = conn.lobject(0, "wb")
    large.write("hello")
    large.close()
    conn.close()


def replication(port: int) -> None:
    run(
        "psql",
        "-X",
        f"host=127.0.0.1 port={port} user=postgres dbname=postgres replication=database",
        "-c",
        "IDENTIFY_SYSTEM",
    )


class Raw:
    """A connection by hand: `ask` sends in one go and returns what comes until the server has been silent a while."""

    def __init__(self, port: int) -> None:
        self.conn = socket.create_connection(("127.0.0.1", port))
        self.conn.settimeout(0.5)

    def ask(self, data: bytes) -> bytes:
        self.conn.sendall(data)
        answer = b""
        with contextlib.suppress(TimeoutError):
            while more := self.conn.recv(65536):
                answer += more
        return answer


def converse(port: int, *writes: bytes) -> None:
    raw = Raw(port)
    for data in writes:
        raw.ask(data)
    raw.conn.close()


def pg_message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def pg_extended(text: str) -> bytes:
    return (
        pg_message("P", f"\0{text}\0".encode() + b"\0\0")
        + pg_message("B", b"\0\0\0\0\0\0\0\0")
        + pg_message("E", b"\0\0\0\0\0")
        + pg_message("S", b"")
    )


PG_STARTUP = b"user\0postgres\0database\0postgres\0"


def pg_startup(more: bytes = b"") -> bytes:
    body = b"\0\3\0\0" + PG_STARTUP + more + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def raw_pipeline(port: int) -> None:
    texts = ("SELECT name FROM users WHERE id = 1", "SELECT * FROM missing", "DELETE FROM users WHERE id = 999")
    converse(port, pg_startup(), b"".join(map(pg_extended, texts)))


def raw_replication(port: int) -> None:
    start = pg_message("Q", b"START_REPLICATION PHYSICAL 0/1000000\0")
    status = pg_message("d", b"r" + bytes(33))
    converse(port, pg_startup(b"replication\0true\0"), start, status)


def psql_tls(port: int) -> None:
    run("psql", "-X", f"host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=require", "-c", "SELECT 1")


def cancel(port: int) -> None:
    """psql sends a CancelRequest on a connection of its own when it is interrupted."""
    run(
        "timeout",
        "-s",
        "INT",
        "1",
        "psql",
        "-X",
        f"host=127.0.0.1 port={port} user=postgres",
        "-c",
        "SELECT pg_sleep(9)",
    )


POSTGRESQL: list[tuple[str, Callable[[int], None]]] = [
    (
        "psql: simple queries",
        psql(
            "SELECT name FROM users WHERE id = 1;\nSELECT * FROM missing;\n"
            "SELECT id FROM users WHERE name = 'alice' \\; SELECT 1/0;\n"
            "INSERT INTO users VALUES (50, 'dave');\nDELETE FROM users WHERE id = 50;\n"
            "DO $$ BEGIN RAISE NOTICE 'secret'; END $$;\nLISTEN news;\nNOTIFY news, 'payload';\n\n;\n"
            "SELECT repeat('x', 300) FROM generate_series(1, 20);\nSELECT 10 / (3 - g) FROM generate_series(1, 5) g;\n"
        ),
    ),
    ("psql: refused login, no such database", psql("SELECT 1", "nowhere")),
    ("psql: SCRAM, right and wrong password", psql_scram),
    ("psql: search_path in the options", psql_path),
    ("psql: COPY FROM STDIN", psql("COPY users (id, name) FROM STDIN;\n200\tcarol\n201\tdan\n\\.\n")),
    ("psql: walsender", replication),
    ("raw: START_REPLICATION", raw_replication),
    ("raw: two Syncs and an error in one write", raw_pipeline),
    ("psql: TLS", psql_tls),
    ("psql: cancelled", cancel),
    ("psycopg 3", psycopg3),
    ("psycopg 3: pipeline with two syncs", psycopg3_pipeline),
    ("psycopg 3: COPY", psycopg3_copy),
    ("psycopg 3: named cursor", psycopg3_cursor),
    ("pg8000", pg8000),
    ("asyncpg", asyncpg),
    ("psycopg2: large object (FunctionCall)", function_call),
]


# --- MariaDB ---------------------------------------------------------------------------------------------------------


def mariadb(text: str, *more: str) -> Callable[[int], None]:
    return lambda port: run(
        "mariadb",
        "--no-defaults",
        "--skip-ssl",
        "--protocol=tcp",
        "-h127.0.0.1",
        f"-P{port}",
        "-uroot",
        "-f",
        *more,
        text=text,
    )


def pymysql(port: int) -> None:
    import pymysql as library

    conn = library.connect(
        host="127.0.0.1", port=port, user="root", database="shop", local_infile=True, ssl_disabled=True
    )
    cursor = conn.cursor()
    cursor.execute("SELECT name FROM users WHERE id = %s", (1,))
    cursor.executemany("INSERT INTO users (id, name) VALUES (%s, %s)", [(10 + i, "it's") for i in range(3)])
    with contextlib.suppress(library.Error):
        cursor.execute("SELECT * FROM missing")
    with contextlib.suppress(library.Error):
        cursor.execute("INSERT INTO users VALUES (1, 'again')")
    cursor.callproc("add_user", (77, "proc"))
    conn.ping()
    conn.select_db("mysql")
    cursor.execute("SELECT count(*) FROM user")
    conn.select_db("shop")
    data = Path("/tmp/record_sql.csv")
    data.write_text("300\tcsv\n301\tcsv\n")
    cursor.execute(f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE users")
    with contextlib.suppress(library.Error):
        conn.select_db("nowhere")
    conn.commit()
    conn.close()


def pymysql_refused(port: int) -> None:
    import pymysql as library

    for arguments in ({"user": "nobody", "password": "wrong"}, {"user": "root", "database": "nowhere"}):
        with contextlib.suppress(library.Error):
            library.connect(host="127.0.0.1", port=port, ssl_disabled=True, **arguments)


def pymysql_multi(port: int) -> None:
    import pymysql as library
    from pymysql.constants import CLIENT

    conn = library.connect(
        host="127.0.0.1",
        port=port,
        user="root",
        database="shop",
        client_flag=CLIENT.MULTI_STATEMENTS,
        ssl_disabled=True,
    )
    cursor = conn.cursor()
    cursor.execute("SELECT id FROM users WHERE id = 1; UPDATE users SET name = 'z' WHERE id = 2")
    while cursor.nextset():
        pass
    with contextlib.suppress(library.Error):
        cursor.execute("SELECT 5; SELECT * FROM missing")
        while cursor.nextset():
            pass
    conn.close()


def connector_prepared(port: int) -> None:
    import mysql.connector as library

    conn = library.connect(host="127.0.0.1", port=port, user="root", database="shop", use_pure=True, ssl_disabled=True)
    cursor = conn.cursor(prepared=True)
    for number in (1, 2):
        cursor.execute("SELECT name FROM users WHERE id = ?", (number,))
        cursor.fetchall()
    with contextlib.suppress(library.Error):
        cursor.execute("INSERT INTO users (id, name) VALUES (?, ?)", (1, "again"))
    with contextlib.suppress(library.Error):
        cursor.execute("SELECT * FROM missing WHERE id = ?", (1,))
    cursor.close()
    conn.cmd_reset_connection()
    conn.cmd_change_user("root", "", "mysql")
    conn.close()


def connector_compressed(port: int) -> None:
    import mysql.connector as library

    conn = library.connect(
        host="127.0.0.1", port=port, user="root", database="shop", use_pure=True, ssl_disabled=True, compress=True
    )
    cursor = conn.cursor()
    cursor.execute("SELECT name FROM users WHERE id = 1 /* " + "x" * 200 + " */")
    cursor.fetchall()
    cursor.execute("SELECT repeat('ab', 400)")
    cursor.fetchall()
    with contextlib.suppress(library.Error):
        cursor.execute("SELECT * FROM missing")
    conn.close()


def tls(port: int) -> None:
    import mysql.connector as library

    with contextlib.suppress(library.Error):
        library.connect(host="127.0.0.1", port=port, user="root", use_pure=True, ssl_verify_cert=False).close()


def packet(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload


# CLIENT_PROTOCOL_41, PLUGIN_AUTH, SECURE_CONNECTION, CONNECT_WITH_DB, TRANSACTIONS, MULTI_RESULTS; not CLIENT_MYSQL,
# so that four bytes of MariaDB's own capabilities follow: 4 = MARIADB_CLIENT_STMT_BULK_OPERATIONS.
MY_LOGIN = packet(
    struct.pack("<IIB19xI", 0x000AA208, 1 << 24, 45, 4) + b"root\0\0shop\0mysql_native_password\0",
    1,
)


def raw_pipelined_execute(port: int) -> None:
    prepare = packet(b"\x16SELECT name FROM users WHERE id = ?")
    execute = packet(b"\x17" + struct.pack("<IBI", 0xFFFFFFFF, 0, 1) + b"\0\1\x08\0" + struct.pack("<q", 1))
    converse(port, b"", MY_LOGIN, prepare + execute, packet(b"\x01"))


def raw_bulk(port: int) -> None:
    rows = b"".join(b"\0" + struct.pack("<i", 400 + n) + b"\0\x04bulk" for n in range(3))
    prepare = packet(b"\x16INSERT INTO users (id, name) VALUES (?, ?)")
    bulk = packet(b"\xfa" + struct.pack("<IH", 0xFFFFFFFF, 128) + b"\x03\0\xfd\0" + rows)
    raw = Raw(port)
    for data in (b"", MY_LOGIN, prepare, bulk):
        raw.ask(data)
    number = raw.ask(packet(b"\x16SELECT id FROM users ORDER BY id"))[5:9]
    raw.ask(packet(b"\x17" + number + struct.pack("<BI", 1, 1)))
    raw.ask(packet(b"\x1c" + number + struct.pack("<I", 2)))
    raw.ask(packet(b"\x04users\0%"))
    raw.ask(packet(b"\x01"))
    raw.conn.close()


MYSQL: list[tuple[str, Callable[[int], None]]] = [
    (
        "mariadb: text queries",
        mariadb(
            "SELECT name FROM users WHERE name = 'alice';\nSELECT * FROM missing;\nUSE mysql;\nSHOW TABLES;\n"
            "USE shop;\n"
            "PREPARE p FROM 'SELECT name FROM users WHERE id = ?';\nSET @i = 1;\nEXECUTE p USING @i;\n"
            "CALL add_user(78, 'proc');\nSELECT * FROM nowhere.users;\n",
            "shop",
        ),
    ),
    ("mariadb: compressed", mariadb("SELECT name FROM users WHERE name = 'alice';\n", "--compress", "shop")),
    ("PyMySQL", pymysql),
    ("PyMySQL: refused logins", pymysql_refused),
    ("PyMySQL: several statements", pymysql_multi),
    ("mysql-connector: prepared statements", connector_prepared),
    ("mysql-connector: compressed", connector_compressed),
    ("mysql-connector: TLS", tls),
    ("raw: prepare and execute in one write", raw_pipelined_execute),
    ("raw: bulk, cursor, field list", raw_bulk),
]


def main() -> None:
    os.environ |= {"PGGSSENCMODE": "disable", "PGSSLMODE": "disable"}
    what, address, out = sys.argv[1:]
    host, _, port = address.rpartition(":")
    record((host, int(port)), {"postgresql": POSTGRESQL, "mysql": MYSQL}[what], Path(out))


if __name__ == "__main__":
    main()
