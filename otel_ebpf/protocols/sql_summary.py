"""`db.query.summary`: the operations and targets of an SQL text whose literals are already gone, in their order.

    SELECT * FROM songs, artists            → SELECT songs artists
    INSERT INTO a (x) SELECT y FROM b       → INSERT a SELECT b
    SELECT d FROM (SELECT * FROM o JOIN c)  → SELECT SELECT o c
    CREATE TABLE IF NOT EXISTS t (…)        → CREATE TABLE t

Theory of operation: the text becomes a list of words (a name with its dots and quotes is one word) and of the marks
`( ) , ;`, and is cut into statements. The first word of a statement says which walk follows (`VERBS`): a query, whose
targets stand after FROM, JOIN, INTO …; a verb with a target behind it (TRUNCATE t); a definition (CREATE kind name); or
a verb alone, because what follows is dynamic or secret (SET, SAVEPOINT, GRANT). A verb that is not in the table has no
summary: the first word of whatever somebody sends is not low-cardinality.

Source: OpenTelemetry semantic conventions, docs/db/database-spans.md ("Generating a summary of the query").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

LIMIT = 255
"""Characters of a summary; the conventions' limit."""


@dataclass(frozen=True, slots=True)
class Summary:
    """text: the summary, "" if nothing was understood. operation and target: of a text that is one statement, as
    written. control: only transactions are begun and ended."""

    text: str = ""
    operation: str = ""
    target: str = ""
    control: bool = False


def summarize(text: str, cut: bool = False) -> Summary:
    """The summary of `text`; `cut`: what was cut off may have continued its last word, which does not count then.

    >>> summarize("select a from public.b join c using (d)")
    Summary(text='select public.b c', operation='select', target='public.b', control=False)
    """
    found: list[_Parts] = []
    for words in _statements(text, cut):
        parts = _statement(words)
        if parts.words and (not found or found[-1].words != parts.words):
            found.append(parts)
    if not found:
        return Summary()
    control = all(parts.operation.upper() in CONTROL for parts in found)
    joined = _joined([word for parts in found for word in parts.words])
    if len(found) > 1:
        return Summary(joined, control=control)
    return Summary(joined, found[0].operation, found[0].target, control)


def _joined(words: list[str]) -> str:
    """The words with a space between, as many whole ones as fit."""
    text = words[0][:LIMIT]
    for word in words[1:]:
        if len(text) + 1 + len(word) > LIMIT:
            break
        text = f"{text} {word}"
    return text


# --- words -----------------------------------------------------------------------------------------------------------

_PART = r"(?:\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|[^\W\d][\w$]*)"
# The first alternative is what looks like a name and is none: a variable, a placeholder, a cast's type.
_TOKEN = re.compile(rf"(?:[@:$]+|[%?])[\w$.]*|({_PART}(?:\s*\.\s*{_PART})*|[(),;])")


def _statements(text: str, cut: bool) -> list[list[str]]:
    """The words of each statement. A routine's body has statements of its own: its definition goes on to the end."""
    statements: list[list[str]] = [[]]
    for match in _TOKEN.finditer(text):
        word: str | None = match[1]
        if word is None or (cut and match.end() == len(text)):
            continue
        if word != ";":
            statements[-1].append(word)
        elif statements[-1]:
            if _defines_routine(statements[-1]):
                break
            statements.append([])
    return statements


def _defines_routine(words: list[str]) -> bool:
    return words[0].upper() in {"CREATE", "ALTER"} and any(word.upper() in ROUTINES for word in words[1:8])


# --- tables ----------------------------------------------------------------------------------------------------------


class _Walk(Enum):
    QUERY = auto()
    """targets stand behind FROM, JOIN, INTO, UPDATE, USING"""
    NAMED = auto()
    """one target, or a list of them, stands right behind the verb"""
    DEFINITION = auto()
    """the verb is followed by the kind of thing, then by its name"""
    PREFIX = auto()
    """another statement follows: EXPLAIN, PREPARE p AS"""
    ALONE = auto()
    """nothing else of it counts"""
    PAIR = auto()
    """the word after it belongs to the operation: START TRANSACTION"""


def _verbs(walk: _Walk, words: str) -> dict[str, _Walk]:
    return dict.fromkeys(words.split(), walk)


VERBS = (
    _verbs(_Walk.QUERY, "SELECT INSERT UPDATE DELETE REPLACE MERGE WITH COPY DECLARE")
    | _verbs(
        _Walk.NAMED, "CALL TRUNCATE USE TABLE LOCK VACUUM ANALYZE DESCRIBE DESC CLUSTER LISTEN UNLISTEN NOTIFY HANDLER"
    )
    | _verbs(_Walk.DEFINITION, "CREATE ALTER DROP RENAME REFRESH REINDEX OPTIMIZE REPAIR CHECK CHECKSUM")
    | _verbs(_Walk.PREFIX, "EXPLAIN PREPARE")
    | _verbs(
        _Walk.ALONE,
        """SET SHOW BEGIN COMMIT ROLLBACK END ABORT SAVEPOINT RELEASE VALUES FETCH MOVE CLOSE EXECUTE DEALLOCATE GRANT
        REVOKE RESET DISCARD CHECKPOINT DO KILL FLUSH XA COMMENT REASSIGN SECURITY HELP INSTALL UNINSTALL PURGE CHANGE
        SIGNAL RESIGNAL GET BINLOG STOP SHUTDOWN CACHE IMPORT IDENTIFY_SYSTEM START_REPLICATION BASE_BACKUP
        CREATE_REPLICATION_SLOT DROP_REPLICATION_SLOT READ_REPLICATION_SLOT TIMELINE_HISTORY""",
    )
    | _verbs(_Walk.PAIR, "START UNLOCK LOAD")
)


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


CONTROL = _words("BEGIN COMMIT ROLLBACK END ABORT SAVEPOINT RELEASE") | {"START TRANSACTION"}
ROUTINES = _words("FUNCTION PROCEDURE TRIGGER EVENT PACKAGE")
KINDS = ROUTINES | _words(
    """TABLE TABLES INDEX VIEW DATABASE SCHEMA USER ROLE SEQUENCE TYPE DOMAIN EXTENSION TABLESPACE SERVER PUBLICATION
    SUBSCRIPTION POLICY RULE AGGREGATE OPERATOR CAST COLLATION CONVERSION LANGUAGE STATISTICS SYSTEM GROUP"""
)
KIND_PREFIXES = frozenset({"MATERIALIZED", "FOREIGN"})
SKIPPED = _words(
    """TABLE TABLES ONLY LATERAL IF NOT EXISTS CONCURRENTLY IGNORE LOW_PRIORITY HIGH_PRIORITY DELAYED QUICK INTO FULL
    FREEZE VERBOSE ANALYZE EXTENDED NO_WRITE_TO_BINLOG LOCAL"""
)
"""Between a verb or FROM and the name that it is about."""
ENDS = _words(
    """WHERE SET VALUES VALUE GROUP ORDER HAVING LIMIT UNION INTERSECT EXCEPT RETURNING FOR WINDOW OFFSET FETCH DEFAULT
    WHEN OUTFILE DUMPFILE DUAL TO STDIN STDOUT IDENTIFIED"""
)
"""End a list of tables."""
MODIFYING = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})


# --- walks -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Parts:
    """What was found in one statement: `words` in their order, the verb, and the first target."""

    words: list[str]
    operation: str = ""
    target: str = ""


def _statement(words: list[str]) -> _Parts:
    start = 0
    while start < len(words) and words[start] == "(":  # (SELECT …) UNION (SELECT …)
        start += 1
    if start == len(words):
        return _Parts([])
    words = words[start:]
    verb, rest = words[0], words[1:]
    match VERBS.get(verb.upper()):
        case _Walk.QUERY:
            return _query(words)
        case _Walk.NAMED:
            several = verb.upper() not in {"CALL", "USE"}
            return _named(verb, rest, several)
        case _Walk.DEFINITION:
            return _definition(verb, rest)
        case _Walk.PREFIX:
            return _prefix(verb, rest)
        case _Walk.PAIR if rest:
            return _pair(f"{verb} {rest[0]}", rest[1:])
        case None:
            return _Parts([])
        case _:
            return _Parts([verb], verb)


def _named(verb: str, rest: list[str], several: bool) -> _Parts:
    """`verb [TABLE] a, b …`; a parenthesis before the name holds options (VACUUM (FULL) t)."""
    parts = _Parts([verb], verb)
    depth, wanted = 0, True
    for word in rest:
        depth += (word == "(") - (word == ")")
        if depth or word == ")":
            continue
        if word == ",":
            wanted = several
        elif wanted and word.upper() not in SKIPPED:
            if word.upper() in ENDS or word.upper() in VERBS:
                break
            parts.words.append(word)
            parts.target = parts.target or word
            wanted = False
    return parts


def _definition(verb: str, rest: list[str]) -> _Parts:
    """`verb [modifiers] KIND [IF EXISTS] name`; a view and a table may go on with a query."""
    operation = verb
    for at, word in enumerate(rest[:12]):
        upper = word.upper()
        if upper in KIND_PREFIXES or upper in KINDS:
            operation = f"{operation} {word}"
        if upper in KINDS and rest[at + 1 : at + 2] != ["("]:
            break
    else:
        return _Parts([verb], verb)
    rest = rest[at + 1 :]
    if upper == "INDEX" and "ON" in (uppers := [word.upper() for word in rest]):
        # The table is what matters; the name of an index may be left out.
        return _named(operation, rest[: uppers.index("ON")] + rest[uppers.index("ON") + 1 :], several=False)
    parts = _named(operation, rest, several=verb.upper() not in {"CREATE", "ALTER"})
    if verb.upper() == "CREATE" and upper in {"TABLE", "VIEW"} and rest:
        parts.words += _query(rest).words
    return parts


def _prefix(verb: str, rest: list[str]) -> _Parts:
    """EXPLAIN [(options)] statement; PREPARE name [(types)] AS statement. One may not stand before another."""
    for at, word in enumerate(rest):
        walk = VERBS.get(word.upper())
        if walk is _Walk.PREFIX:
            break
        if walk is not None and word.upper() not in SKIPPED:  # EXPLAIN ANALYZE: an option
            return _Parts([verb, *_statement(rest[at:]).words], verb)
    return _Parts([verb], verb)


def _pair(operation: str, rest: list[str]) -> _Parts:
    """START TRANSACTION; LOAD DATA LOCAL INFILE ? INTO TABLE t."""
    uppers = [word.upper() for word in rest]
    if "INTO" in uppers:
        return _named(operation, rest[uppers.index("INTO") + 1 :], several=False)
    return _Parts([operation], operation)


class _Names(Enum):
    """What a name means at a place of a query."""

    NOTHING = auto()
    TARGET = auto()
    ALIAS = auto()
    """a comma makes the next one a target again"""


def _query(words: list[str]) -> _Parts:
    """A query with all its subqueries.

    Each parenthesis opens a level of its own. `tables`: FROM names tables there, which it does not in
    `extract(year FROM x)`. `names`: what a name means; the outer level's meaning comes back at its end.
    """
    parts = _Parts([])
    levels: list[tuple[bool, _Names]] = []
    tables, names = False, _Names.NOTHING
    common = _common_tables(words) if words[0].upper() == "WITH" else frozenset()
    verb = previous = ""
    for word in words:
        upper = word.upper()
        if word == "(":
            levels.append((tables, names))
            tables = names is _Names.TARGET  # FROM (a JOIN b), FROM (SELECT …)
            names = names if tables else _Names.NOTHING
        elif word == ")":
            tables, names = levels.pop() if levels else (False, _Names.NOTHING)
            names = _Names.ALIAS if names is _Names.TARGET else names
        elif word == ",":
            names = _Names.TARGET if names is _Names.ALIAS else names
        elif upper == "SELECT" or (upper in MODIFYING and (not verb or _modifies(common, previous, levels))):
            parts.words.append(word)
            if not levels and not parts.operation:
                parts.operation = word
            verb, tables = upper, True
            names = _Names.NOTHING if upper in {"SELECT", "DELETE"} else _Names.TARGET
        elif upper in {"COPY", "DECLARE"} and not verb:
            parts.words.append(word)
            parts.operation, verb = word, upper
            names = _Names.TARGET if upper == "COPY" else _Names.NOTHING
        elif _opens_tables(upper, verb, previous, tables):
            names = _Names.TARGET
        elif upper in ENDS:
            names = _Names.NOTHING
        elif names is _Names.TARGET and (upper not in SKIPPED or upper == "TABLE"):
            names = _Names.ALIAS
            if upper not in common:
                parts.words.append(word)
                parts.target = parts.target or word
        previous = upper
    return parts


def _modifies(common: frozenset[str], previous: str, levels: list[tuple[bool, _Names]]) -> bool:
    """INSERT, UPDATE, DELETE behind WITH: inside a common table, or as the statement proper."""
    return bool(common) and (previous == "(" if levels else previous == ")")


def _opens_tables(upper: str, verb: str, previous: str, tables: bool) -> bool:
    match upper:
        case "FROM":
            return tables and previous != "DISTINCT"  # IS DISTINCT FROM
        case "JOIN" | "STRAIGHT_JOIN":
            return tables
        case "INTO":
            return tables
        case "USING":
            return verb in {"DELETE", "MERGE"}
        case _:
            return False


def _common_tables(words: list[str]) -> frozenset[str]:
    """Names that WITH gives to its queries: `name [(columns)] AS [[NOT] MATERIALIZED] (`, outside parentheses."""
    names: set[str] = set()
    depth, last = 0, ""
    for word in words[1:]:
        depth += (word == "(") - (word == ")")
        upper = word.upper()
        if depth or word == ")":
            continue
        if upper == "AS" and last:
            names.add(last)
        elif upper in {"SELECT", *MODIFYING}:
            break
        elif upper not in {"RECURSIVE", "NOT", "MATERIALIZED", ","}:
            last = upper
    return frozenset(names)
