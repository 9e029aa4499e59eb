"""What may be shown of a Redis command: its name and keys always, values and secrets never unless they are asked for.

OpenTelemetry wants `db.query.text` as one would type it into redis-cli, with literals replaced ("HMSET myhash field1 ?
field2 ?", span.db.redis.client). So each command has a pattern of its arguments, one letter an argument, and what is in
parentheses repeats: "k(k?)" is a key, then fields each with a hidden value. The letters:

    k  shown: key, field, channel, count, cursor, pattern, option
    ?  hidden
    o  shown if it is an option's word (NX, EX, LIMIT, …), else hidden
    n  shown if it is an option's word or a number, else hidden

A command that is not in the table shows none of its arguments, except that the first argument of a module's command
(JSON.SET) is its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

Show: TypeAlias = "Callable[[Sequence[bytes]], str]"
"""Arguments after the name → k or ? for each; where it is shorter the rest is hidden."""

TEXT_LIMIT = 2048
"""Longest text of a command; what is beyond is cut and marked with an ellipsis."""

PLAIN = re.compile(rb"[!#-&(-\[\]-~]+")  # printable ASCII that redis-cli needs no quotes for: no space, " ' \
PURE = re.compile("[k?]*")
NUMBER = re.compile(rb"[-+]?(?:\d+(?:\.\d+)?|inf)")
OPTIONS = frozenset(
    b"NX XX GT LT CH INCR EX PX EXAT PXAT KEEPTTL PERSIST GET SET INCRBY OVERFLOW WRAP SAT FAIL FROMMEMBER FROMLONLAT "
    b"BYRADIUS BYBOX BYSCORE BYLEX REV LIMIT COUNT ANY ASC DESC WITHCOORD WITHDIST WITHHASH WITHSCORES WITHSCORE "
    b"STORE STOREDIST M KM FT MI FIELDS FNX FXX".split()
)


def shown(pattern: str, arguments: Sequence[bytes]) -> str:
    """One letter, k or ?, for each argument.

    >>> shown("k?(o)", [b"key", b"value", b"EX", b"60"])
    'k?k?'
    """
    letters = expanded(pattern, len(arguments))
    return letters if PURE.fullmatch(letters) else "".join(map(_letter, letters, arguments))


@lru_cache(1024)
def expanded(pattern: str, count: int) -> str:
    """The pattern's letters for so many arguments.

    >>> expanded("k(k?)", 4)
    'kk?k'
    """
    head, _, tail = pattern.partition("(")
    tail = tail.rstrip(")") or "?"
    return (head + tail * (count // len(tail) + 1))[:count]


def _letter(letter: str, argument: bytes) -> str:
    if letter in "on":
        is_shown = argument.upper() in OPTIONS or (letter == "n" and NUMBER.fullmatch(argument))
        return "k" if is_shown else "?"
    return letter


def _eval(arguments: Sequence[bytes]) -> str:
    """EVAL script numkeys key… argument…: a script may contain anything, the keys are counted."""
    return "?" + _fcall(arguments)[1:]


def _fcall(arguments: Sequence[bytes]) -> str:
    """EVALSHA sha1 numkeys key… argument…, FCALL function numkeys …"""
    counted = len(arguments) > 1 and re.fullmatch(rb"\d{1,9}", arguments[1])
    return "k" * min(2 + int(arguments[1]), len(arguments)) if counted else "k"


def _xadd(arguments: Sequence[bytes]) -> str:
    """XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] id (field value)…"""
    at = 1
    while at < len(arguments):
        word = arguments[at].upper()
        if word in (b"NOMKSTREAM", b"KEEPREF", b"DELREF", b"ACKED"):
            at += 1
        elif word in (b"MAXLEN", b"MINID"):
            at += 3 if arguments[at + 1 : at + 2] in ([b"="], [b"~"]) else 2
        elif word == b"LIMIT":
            at += 2
        else:
            break
    return "k" * (at + 1) + "k?" * ((len(arguments) - at) // 2)


def _hello(arguments: Sequence[bytes]) -> str:
    """HELLO [version [AUTH user password] [SETNAME name]]"""
    return _after(arguments, {b"AUTH": 2})


def _migrate(arguments: Sequence[bytes]) -> str:
    """MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key…]"""
    return _after(arguments, {b"AUTH": 1, b"AUTH2": 2})


def _after(arguments: Sequence[bytes], secrets: dict[bytes, int]) -> str:
    letters: list[str] = []
    for argument in arguments:
        if len(letters) < len(arguments):
            letters += "k" + "?" * secrets.get(argument.upper(), 0)
    return "".join(letters)


ALL, NONE = "(k)", "(?)"
UNKNOWN, MODULE = NONE, "k(?)"

# "NAME" → pattern; the subcommand of a container is part of its name, as in Redis's own documentation.
PATTERNS: dict[str, str] = {
    name: pattern
    for pattern, names in {
        ALL: """ASKING BGREWRITEAOF BGSAVE BITCOUNT BITFIELD_RO BITOP BITPOS BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH
            BZMPOP BZPOPMAX BZPOPMIN CLIENT CLUSTER COMMAND CONFIG COPY DBSIZE DECR DECRBY DEL DISCARD DUMP EXEC EXISTS
            EXPIRE EXPIREAT EXPIRETIME FAILOVER FLUSHALL FLUSHDB FUNCTION GET GETBIT GETDEL GETEX GETRANGE HDEL
            HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET
            HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS INCR INCRBY INCRBYFLOAT
            INFO KEYS LASTSAVE LATENCY LCS LINDEX LLEN LMOVE LMPOP LOLWUT LPOP LRANGE LTRIM MEMORY MGET MODULE
            MONITOR MOVE MULTI OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFCOUNT PFMERGE PSUBSCRIBE PSYNC PTTL
            PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE RENAME RENAMENX REPLCONF REPLICAOF RESET ROLE RPOP
            RPOPLPUSH SAVE SCAN SCARD SCRIPT SDIFF SDIFFSTORE SELECT SENTINEL SHUTDOWN SINTER SINTERCARD SINTERSTORE
            SLAVEOF SLOWLOG SMEMBERS SORT SORT_RO SPOP SRANDMEMBER SSCAN SSUBSCRIBE STRLEN SUBSCRIBE SUBSTR SUNION
            SUNIONSTORE SUNSUBSCRIBE SWAPDB SYNC TIME TOUCH TTL TYPE UNLINK UNSUBSCRIBE UNWATCH WAIT WAITAOF WATCH
            XACK XAUTOCLAIM XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE XSETID XTRIM
            ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINTER ZINTERCARD ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANDMEMBER
            ZREMRANGEBYRANK ZREVRANGE ZSCAN ZUNION ZUNIONSTORE""",
        NONE: "AUTH ECHO PFDEBUG PFSELFTEST PING RESTORE-ASKING",
        "k(?)": """APPEND DEBUG GEOHASH GEOPOS GETSET LPUSH LPUSHX PFADD PUBLISH RPUSH RPUSHX SADD SETNX SISMEMBER
            SMISMEMBER SPUBLISH SREM VADD VSIM ZMSCORE ZREM ZSCORE""",
        "kk(?)": "HSETNX LINSERT LREM LSET PSETEX RESTORE SETBIT SETEX SETRANGE SMOVE ZINCRBY",
        "k(o)": "BITFIELD GEOADD GEOSEARCH GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO HSETEX ZADD",
        "k?(o)": "SET",
        "k??(o)": "GEODIST ZLEXCOUNT ZRANGEBYLEX ZREMRANGEBYLEX ZREVRANGEBYLEX",
        "k?(k)": "LPOS ZRANK ZREVRANK",
        "k(n)": "GEORADIUS GEORADIUS_RO ZRANGE ZRANGEBYSCORE ZREMRANGEBYSCORE ZREVRANGEBYSCORE",
        "kk(n)": "ZRANGESTORE",
        "kk(o)": "GEOSEARCHSTORE",
        "(k?)": "MSET MSETNX",
        "k(k?)": "HSET HMSET",
    }.items()
    for name in names.split()
} | {
    # The remaining subcommands of these show all that follows, as the container's own entry says.
    "ACL CAT": ALL,
    "ACL LOG": ALL,
    "ACL": NONE,
    "COMMAND GETKEYS": NONE,
    "COMMAND GETKEYSANDFLAGS": NONE,
    "CONFIG SET": "(k?)",
    "FUNCTION LOAD": NONE,
    "FUNCTION RESTORE": NONE,
    "MODULE LOAD": "k(?)",
    "MODULE LOADEX": "k(?)",
    "SCRIPT LOAD": NONE,
    "SENTINEL SET": "k(k?)",
    "SENTINEL CONFIG": "k(k?)",
}

SPECIAL: dict[str, Show] = {
    "EVAL": _eval,
    "EVAL_RO": _eval,
    "EVALSHA": _fcall,
    "EVALSHA_RO": _fcall,
    "FCALL": _fcall,
    "FCALL_RO": _fcall,
    "HELLO": _hello,
    "MIGRATE": _migrate,
    "XADD": _xadd,
}

_CONTAINERS = """ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SENTINEL
    SLOWLOG XGROUP XINFO"""
CONTAINERS = frozenset(_CONTAINERS.split())
"""Commands whose first argument is a subcommand, part of the operation's name."""

PROCEDURES = frozenset(["EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"])
"""Commands whose first argument is `db.stored_procedure.name`."""


def known(name: str) -> bool:
    """Whether Redis has a command of that upper-case name (without its subcommand)."""
    return name in PATTERNS or name in SPECIAL


def letters(operation: str, arguments: Sequence[bytes]) -> str:
    """k or ? for each argument after the operation's words.

    >>> letters("HSET", [b"cart:7", b"sku", b"A-1"])
    'kk?'
    """
    special = SPECIAL.get(operation)
    if special is not None:
        return special(arguments)[: len(arguments)].ljust(len(arguments), "?")
    return shown(pattern_of(operation), arguments)


def pattern_of(operation: str) -> str:
    """The pattern of an operation that is not in SPECIAL."""
    name = operation.partition(" ")[0]
    return PATTERNS.get(operation) or PATTERNS.get(name) or (MODULE if "." in name else UNKNOWN)


def text(words: Sequence[bytes], arguments: Sequence[bytes], letters: str, missing: bool, cut: bool) -> str:
    """The command as typed into redis-cli: `words` (its name) and arguments, those not marked k as `?`.

    missing: more arguments follow that are not there; cut: the last argument is not whole. Both show as an ellipsis.

    >>> text([b"set"], [b"my key", b"secret"], "k?", False, False)
    'set "my key" ?'
    """
    shown_as = [quoted(word) for word in words]
    size = 0
    for index, argument in enumerate(arguments):
        part = quoted(argument) if letters[index] == "k" else "?"
        if cut and index == len(arguments) - 1 and part != "?":
            part += "…"
        shown_as.append(part)
        size += len(part) + 1
        if size > TEXT_LIMIT:
            return " ".join(shown_as)[:TEXT_LIMIT] + "…"
    if missing:
        shown_as.append("…")
    return " ".join(shown_as)


def quoted(argument: bytes) -> str:
    """An argument as redis-cli would print and take it: bare if that is safe, else quoted with escapes.

    >>> quoted(b"user:1"), quoted(b"a b"), quoted(b"\\xff")
    ('user:1', '"a b"', '"\\\\xff"')
    """
    argument = argument[:TEXT_LIMIT]
    if PLAIN.fullmatch(argument):
        return argument.decode("ascii")
    try:
        decoded = argument.decode()
    except UnicodeDecodeError:
        return '"' + "".join(map(_escaped, argument.decode("latin-1"))) + '"'
    if decoded.isprintable() and not any(c in decoded for c in " \"'\\") and decoded:
        return decoded
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else _escaped(c) for c in decoded) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if code < 0x80:
        named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
        return named or (character if character.isprintable() else f"\\x{code:02x}")
    return f"\\x{code:02x}" if code < 0x100 else "".join(f"\\x{byte:02x}" for byte in character.encode())
