"""What a peer may be, by the well-known port that it is called at, where nothing else says it.

A guess stands in the answer as one (`guessed`), and only for an end that was not seen itself and whose callers do not
say what they speak. Source: IANA, Service Name and Transport Protocol Port Number Registry; for ports that are used by
convention only, the server's own documentation.
"""

from __future__ import annotations

import re

_SYSTEMS = {
    53: "dns",
    80: "http",
    443: "https",
    1433: "microsoft.sql_server",
    1521: "oracle.db",
    2379: "etcd",
    3306: "mysql",
    4317: "otlp",
    5432: "postgresql",
    5672: "rabbitmq",
    6379: "redis",
    9042: "cassandra",
    9092: "kafka",
    9200: "elasticsearch",
    11211: "memcached",
    27017: "mongodb",
}
_PORT = re.compile(r":([0-9]{1,5})$")


def by_port(name: str) -> str:
    """The system that the port of a peer's name suggests; "" if it has none, or an uncommon one.

    >>> by_port("10.0.0.5:5432"), by_port("[::1]:6379"), by_port("::1"), by_port("db.test")
    ('postgresql', 'redis', '', '')
    """
    found = _PORT.search(name) if name.count(":") == 1 or name.startswith("[") else None
    return _SYSTEMS.get(int(found[1]), "") if found else ""
