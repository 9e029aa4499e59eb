"""SQL text: literals replaced by `?`, and the operation, targets and summary that the conventions ask for.

No parser of SQL: a scanner that is right about where literals, comments and identifiers are, which is all that
redaction needs, and after it a walk over the words that are left (`sql_summary`). The scanner is one C-level `re.sub`,
since every statement that was not seen before pays it; the walk is memoised by the redacted text, so it is paid once
per kind of query. Both never fail. An unterminated literal or comment, as in a statement that capture cut, runs to the
text's end.

Where a server's mode makes the text ambiguous, its default is assumed: PostgreSQL has standard_conforming_strings on;
MySQL has backslash escapes, and `"` quotes a string (under ANSI_QUOTES such identifiers are redacted as well).

Sources: OpenTelemetry semantic conventions, docs/db/database-spans.md ("Sanitization of db.query.text"); PostgreSQL
manual §4.1 (lexical structure); MySQL manual §11 (language structure).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from otel_ebpf.protocols.sql_summary import summarize


class Dialect(Enum):
    """Whose lexical rules hold: they differ in what `"`, `\\`, `#` and `$$` mean."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What is known about one SQL text, which may hold several statements. Compared by identity: `Sql` gives the same
    one for the same redacted text, as long as it remembers it.

    text: literals replaced, comments removed, `IN (?, ?)` and repeated rows of VALUES collapsed.
    summary: `db.query.summary`; "" when the verb is not known.
    operation: the verb if the text is one statement ("SELECT", "CREATE TABLE"), as written; else "".
    procedure: what a lone CALL calls, as written. database: what a lone USE selects, without its quotes.
    control: nothing but BEGIN, COMMIT, SAVEPOINT and the like.
    """

    text: str
    summary: str = ""
    operation: str = ""
    procedure: str = ""
    database: str = ""
    control: bool = False


class Sql:
    """Reads the SQL of one dialect; remembers the kinds of queries that it has seen, at most `memory` of them.

    >>> Sql(Dialect.POSTGRESQL).read("SELECT * FROM users u, orders WHERE u.name = 'bob' AND n IN (1, 2)")
    Statement(text='SELECT * FROM users u, orders WHERE u.name = ? AND n IN (?)', summary='SELECT users orders', ...)
    """

    def __init__(self, dialect: Dialect, memory: int = 1024) -> None:
        self._scanner = _SCANNERS[dialect]
        self._understand = lru_cache(memory)(_understand)

    def read(self, text: str, cut: bool = False) -> Statement:
        """The statement; `cut`: the text was longer, so that its last word may be only a part of one."""
        return self._understand(self._scanner.sub(_replacement, text), cut)


# Group 1 is a run of what is kept; a match without it is a literal or a comment. Words are taken whole, so that no
# digit inside one is mistaken for a number. Nothing follows the repeated group, so it never has to backtrack.
_WORD = r"[^\W\d][\w$]*"
_NUMBER = r"\d[\w$]*(?:\.\d[\w$]*)?(?:(?<=[eE])[+-]\d+)?"
# PostgreSQL's comments nest: one level is matched exactly; what nests deeper is taken for a comment to the end.
_FLAT = r"(?:[^*/]|\*(?!/)|/(?!\*))*"
_NESTED_COMMENT = rf"/\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*{_FLAT}\*/)*\*/|/\*.*"

_SCANNERS = {
    Dialect.POSTGRESQL: re.compile(
        "|".join(
            (
                rf"""((?:{_WORD}|[^\w'"$/-]+|"[^"]*(?:"|\Z)|\$\d+|-(?!-)|/(?!\*))+)""",
                r"--[^\n]*",
                _NESTED_COMMENT,
                r"'(?:(?<=\W[eE]')(?:[^'\\]|\\.|'')*(?:'|\\?\Z)|(?:[^']|'')*(?:'|\Z))",
                r"\$((?:[^\W\d]\w*)?)\$.*?(?:\$\2\$|\Z)",
                _NUMBER,
            )
        ),
        re.DOTALL,
    ),
    # `/*! … */` and `/*M! … */` are executed: their delimiters go, their text stays. `--` needs a space after it.
    Dialect.MYSQL: re.compile(
        "|".join(
            (
                rf"""((?:{_WORD}|[^\w'"`#/*-]+|`[^`]*(?:`|\Z)|-(?!-(?:\s|\Z))|/(?!\*)|\*(?!/))+)""",
                r"--[^\n]*|#[^\n]*",
                r"/\*M?!\d{0,6}|\*/",
                r"/\*.*?(?:\*/|\Z)",
                r"'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)",
                r'"(?:[^"\\]|\\.|"")*(?:"|\\?\Z)',
                _NUMBER,
            )
        ),
        re.DOTALL,
    ),
}
_COMMENT_STARTS = ("--", "/*", "#", "*/")


def _replacement(match: re.Match[str]) -> str:
    kept: str | None = match[1]
    if kept is not None:
        return kept
    return "" if match[0].startswith(_COMMENT_STARTS) else "?"


_PREFIX = re.compile(r"(?<![\w$.\"`@])(?:[bexn]|u&)(?=\?)", re.IGNORECASE)
_BOOLEAN = re.compile(r"(?<![\w$.\"`@])(?:true|false)(?![\w$.\"`])", re.IGNORECASE)
_IN_LIST = re.compile(r"(\bIN\s*\(\s*\?)(?:\s*,\s*\?)+", re.IGNORECASE)
_ROWS = re.compile(r"(\([^()]*\))(?:\s*,\s*\1)+")


def _understand(text: str, cut: bool) -> Statement:
    """The statement of a text whose strings and numbers are replaced already."""
    text = _BOOLEAN.sub("?", _PREFIX.sub("", text)).strip()
    text = _IN_LIST.sub(r"\1", text)
    if "?" in text:
        text = _ROWS.sub(r"\1", text)
    summary = summarize(text, cut)
    procedure = database = ""
    match summary.operation.upper():
        case "CALL":
            procedure = summary.target
        case "USE":
            database = summary.target.strip('`"')
    return Statement(text, summary.text, summary.operation, procedure, database, summary.control)
