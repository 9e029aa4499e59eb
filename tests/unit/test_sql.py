"""SQL text: what is redacted, and what its summary is."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ebpf.protocols.sql import Dialect, Sql
from otel_ebpf.protocols.sql_summary import LIMIT, summarize

POSTGRESQL, MYSQL = Sql(Dialect.POSTGRESQL), Sql(Dialect.MYSQL)
BOTH = [pytest.param(POSTGRESQL, id="postgresql"), pytest.param(MYSQL, id="mysql")]


@pytest.mark.parametrize("sql", BOTH)
@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("SELECT 12, -12, +12.34e-56, .5, 1.", "SELECT ?, -?, +?, .?, ?."),
        ("SELECT 0xDEADBEEF, 12.34e56", "SELECT ?, ?"),
        ("SELECT 'hello', 'it''s', 'a\nb'", "SELECT ?, ?, ?"),
        ("SELECT x'1F', N'text', B'01'", "SELECT ?, ?, ?"),
        ("SELECT c3po FROM covid19 WHERE n1h1=1234", "SELECT c3po FROM covid19 WHERE n1h1=?"),
        ("SELECT TRUE, false, istrue FROM t", "SELECT ?, ?, istrue FROM t"),
        ("INSERT INTO X VALUES(1, 'b', 99+100)", "INSERT INTO X VALUES(?, ?, ?+?)"),
        ("SELECT a -- 'secret'\nFROM /* 'secret' \n 5 */ t", "SELECT a \nFROM  t"),
        ("SELECT DATE '2020-01-02', DATE'2020-01-02'", "SELECT DATE ?, DATE?"),
        ("SELECT 'cut off in the mid", "SELECT ?"),
        ("SELECT 1 /* cut off", "SELECT ?"),
        ("SELECT * FROM t WHERE v IN (1, 'x' , 3)", "SELECT * FROM t WHERE v IN (?)"),
        ("INSERT INTO t VALUES (1,'a'),(2,'b'), (3,'c')", "INSERT INTO t VALUES (?,?)"),
        ("/*traceparent='00-ab-cd-01'*/ SELECT 1", "SELECT ?"),
    ],
)
def test_literals_become_question_marks_and_comments_go(sql: Sql, text: str, redacted: str) -> None:
    assert sql.read(text).text == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('SELECT "it\'s 5" FROM "t1" WHERE a = $1', 'SELECT "it\'s 5" FROM "t1" WHERE a = $1'),
        ("SELECT E'a\\'secret', e'\\\\', 'no escape\\', 5", "SELECT ?, ?, ?, ?"),
        ("SELECT $$it's$$, $tag$a $$ b$tag$, $q$cut", "SELECT ?, ?, ?"),
        ("SELECT U&'d\\0061t', '1'::int, a::numeric(10,2)", "SELECT ?, ?::int, a::numeric(?,?)"),
        ("SELECT /* a /* nested 'secret' */ secret */ 1", "SELECT  ?"),
        ("SELECT a->'key'->>'k', b ? 'x', c #> '{a,b}'", "SELECT a->?->>?, b ? ?, c #> ?"),
        ("SELECT 1_000_000", "SELECT ?"),
    ],
)
def test_postgresql_has_its_own_quotes(text: str, redacted: str) -> None:
    assert POSTGRESQL.read(text).text == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("SELECT \"it\\\"s 5\", 'a\\'b' FROM `t 1`", "SELECT ?, ? FROM `t 1`"),
        ("SELECT 5--1, 6 -- 'secret'", "SELECT ?--?, ?"),
        ("SELECT 1 # it's secret\n, 2", "SELECT ? \n, ?"),
        ("/*!40101 SET NAMES utf8 */", "SET NAMES utf8"),
        ("SELECT _utf8mb4'x', @name, @@version", "SELECT _utf8mb4?, @name, @@version"),
        ("SELECT 'cut inside an escape\\", "SELECT ?"),
    ],
)
def test_mysql_has_its_own_quotes(text: str, redacted: str) -> None:
    assert MYSQL.read(text).text == redacted


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        # the examples of the conventions
        ("SELECT * FROM wuser_table WHERE username = ?", "SELECT wuser_table"),
        (
            "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders",
            "INSERT shipping_details SELECT orders",
        ),
        ("SELECT * FROM songs, artists WHERE songs.artist_id == artists.id", "SELECT songs artists"),
        (
            "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
            "SELECT SELECT orders customers",
        ),
        ('SELECT * FROM "song list", artists', 'SELECT "song list" artists'),
        ("call some_stored_procedure", "call some_stored_procedure"),
        # queries
        ("SELECT a FROM dbo.Table JOIN dbo.AnotherTable", "SELECT dbo.Table dbo.AnotherTable"),
        ("select 1", "select"),
        ("SELECT extract(year FROM d), trim(both from x) FROM t", "SELECT t"),
        ("SELECT * FROM a WHERE b IS DISTINCT FROM c", "SELECT a"),
        ("SELECT * FROM a WHERE x IN (SELECT y FROM b) FOR UPDATE", "SELECT a SELECT b"),
        ("(SELECT a FROM b) UNION (SELECT c FROM d)", "SELECT b SELECT d"),
        ("SELECT * FROM (a JOIN b USING (id)), ONLY c", "SELECT a b c"),
        ("WITH x AS (SELECT 1 FROM a), y(q) AS (DELETE FROM b RETURNING *) SELECT * FROM x, y, z", None),
        ("INSERT INTO t (update, x) VALUES (?, ?) ON CONFLICT (x) DO UPDATE SET a = ?", "INSERT t"),
        ("INSERT IGNORE INTO `t` SET a = ? ON DUPLICATE KEY UPDATE b = ?", "INSERT `t`"),
        ("UPDATE ONLY t SET a = b FROM c", "UPDATE t c"),
        ("UPDATE a, b SET a.x = b.y", "UPDATE a b"),
        ("DELETE FROM a USING b WHERE a.x = b.x", "DELETE a b"),
        ("DELETE a FROM a JOIN b", "DELETE a b"),
        ("REPLACE INTO t VALUES (?)", "REPLACE t"),
        ("MERGE INTO t USING s ON t.i = s.i WHEN MATCHED THEN UPDATE SET a = ?", "MERGE t s"),
        ("COPY t (a, b) FROM STDIN", "COPY t"),
        ("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t"),
        # definitions
        ("CREATE  TABLE MyTable (ID NOT NULL IDENTITY(?,?) PRIMARY KEY)", "CREATE TABLE MyTable"),
        ("CREATE TEMPORARY TABLE IF NOT EXISTS a.b AS SELECT * FROM c", "CREATE TABLE a.b SELECT c"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM t", "CREATE MATERIALIZED VIEW v SELECT t"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
        ("CREATE INDEX ON t (a)", "CREATE INDEX t"),
        ("ALTER TABLE t ADD COLUMN a int, ADD COLUMN b int", "ALTER TABLE t"),
        ("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b"),
        ("CREATE PROCEDURE p() BEGIN SELECT 1; DELETE FROM x; END", "CREATE PROCEDURE p"),
        ("TRUNCATE TABLE ONLY a, b", "TRUNCATE a b"),
        # verbs alone: what follows is dynamic, or a secret
        ("SET search_path TO foo", "SET"),
        ("SAVEPOINT sa_savepoint_12", "SAVEPOINT"),
        ("FETCH FORWARD ? FROM cursor_17", "FETCH"),
        ("CREATE USER ?@? IDENTIFIED BY ?", "CREATE USER"),
        ("GRANT SELECT ON t TO u", "GRANT"),
        ("START TRANSACTION READ ONLY", "START TRANSACTION"),
        # others
        ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t", "EXPLAIN SELECT t"),
        ("EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN DELETE t"),
        ("EXPLAIN EXPLAIN SELECT 1", "EXPLAIN"),
        ("PREPARE p(int) AS UPDATE x SET y = $1", "PREPARE UPDATE x"),
        ("LOAD DATA LOCAL INFILE ? INTO TABLE t", "LOAD DATA t"),
        ("LOCK TABLES a READ, b WRITE", "LOCK a b"),
        ("VACUUM (FULL, ANALYZE) t", "VACUUM t"),
        ("BEGIN; INSERT INTO t VALUES (?); INSERT INTO t VALUES (?); COMMIT", "BEGIN INSERT t COMMIT"),
        # not SQL: nothing that is not known may become a span's name
        ("hunter2 is my password", ""),
        ("", ""),
        (";;", ""),
        ("((((", ""),
    ],
)
def test_the_summary_names_operations_and_targets_in_their_order(text: str, summary: str | None) -> None:
    assert summarize(text).text == (summary if summary is not None else "SELECT a DELETE b SELECT z")


def test_a_summary_is_cut_between_words() -> None:
    text = summarize("SELECT * FROM " + ", ".join(f"table_{n:03}" for n in range(100))).text

    assert len(text) <= LIMIT
    assert text.split()[-1] == "table_023"


def test_the_last_word_of_a_text_that_was_cut_is_not_trusted() -> None:
    assert POSTGRESQL.read("SELECT a FROM users, ord", cut=True).summary == "SELECT users"
    assert POSTGRESQL.read("SELECT a FROM users, ord").summary == "SELECT users ord"


def test_one_statement_has_an_operation_and_several_have_none() -> None:
    assert POSTGRESQL.read("select 1 from t").operation == "select"
    assert POSTGRESQL.read("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a").operation == "INSERT"
    assert POSTGRESQL.read("SELECT 1; DELETE FROM t").operation == ""


def test_what_is_called_used_or_only_begun_is_known() -> None:
    assert MYSQL.read("CALL shop.`add user`(1, 'x')").procedure == "shop.`add user`"
    assert MYSQL.read("USE `my db`").database == "my db"
    assert POSTGRESQL.read("BEGIN; SAVEPOINT a").control
    assert not POSTGRESQL.read("BEGIN; SELECT 1").control


SECRET = st.text(st.sampled_from("abz019 '\"\\$-/*#;\n`"), min_size=1, max_size=20)


@given(st.lists(SECRET, min_size=1, max_size=4), st.sampled_from(["postgresql", "mysql"]))
@example(["\\"], "mysql")
@example(["*/"], "postgresql")
def test_no_string_that_is_quoted_as_the_server_wants_it_survives(secrets: list[str], dialect: str) -> None:
    marked = [f"SECRET{secret}SECRET" for secret in secrets]
    if dialect == "mysql":
        quoted = ["'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" for text in marked]
        read = MYSQL.read(f"SELECT a FROM t WHERE b IN ({', '.join(quoted)}) AND c = {quoted[0]}")
    else:
        quoted = ["'" + text.replace("'", "''") + "'" for text in marked]
        read = POSTGRESQL.read(f"SELECT a FROM t WHERE b IN ({', '.join(quoted)}) AND c = {quoted[0]}")

    assert read.text == "SELECT a FROM t WHERE b IN (?) AND c = ?"
    assert read.summary == "SELECT t"


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), st.sampled_from("=<>+-*/,( "))
def test_no_number_survives(number: float, before: str) -> None:
    for sql in (POSTGRESQL, MYSQL):
        redacted = sql.read(f"SELECT x{before}{abs(number)!r} FROM t1").text
        assert not any(character.isdigit() for character in redacted.replace("t1", ""))


@given(st.text(), st.booleans())
@example("\0", False)
@example("/*" * 400, True)
@example("(SELECT " * 100, True)
@example("'" * 1001, False)
@example("EXPLAIN " * 2000, False)
@example("PREPARE p AS " * 2000, False)
@example('"a".' * 200, False)
def test_any_text_is_read_without_an_error(text: str, cut: bool) -> None:
    for sql in (POSTGRESQL, MYSQL):
        statement = sql.read(text, cut)
        assert len(statement.summary) <= LIMIT


PIECES = """SELECT FROM INSERT INTO UPDATE DELETE WITH AS ( ) , ; . t 'x' 5 JOIN ON CREATE TABLE DROP IF EXISTS CALL USE
/* */ -- $$ " ` # ? $1 @v E' \\"""
WORDS = st.sampled_from([*PIECES.split(), "\n"])


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=60))
def test_any_mixture_of_words_is_read_without_an_error(words: list[str]) -> None:
    for sql in (POSTGRESQL, MYSQL):
        statement = sql.read(" ".join(words))
        assert "5" not in statement.text.replace("$5", "") or '"' in statement.text or "`" in statement.text
