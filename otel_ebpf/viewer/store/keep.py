"""What goes: old sums are gathered by minute, and what is beyond the age or the size is deleted."""

from __future__ import annotations

from dataclasses import dataclass

from otel_ebpf.viewer.store.database import Database

FINE_NS, COARSE_NS = 10 * 10**9, 60 * 10**9
"""Steps of the sums: of the last minutes, and of what is older."""
SETTLED_NS = 30 * 10**9
"""Partial rows that are older than this are gathered; what comes later makes new ones."""
SLACK_NS = 300 * 10**9
"""What is too old goes in portions of at least this."""
FINE_FOR_NS = 3600 * 10**9
_TIMES = {"spans": "start", "logs": "time", "points": "time", "operations": "time", "edges": "time", "losses": "time"}
_STORED = ("spans", "logs", "points")
_SUMS = {
    "operations": ("time, service, kind, name, system, bucket", "calls, failed, sum"),
    "edges": (
        "time, client, server, connection_type, client_kind, server_kind, system, bucket, server_bucket",
        "calls, failed, sum, server_sum",
    ),
}
_PART = 0.05
"""At least so much goes at once: each time costs a rewrite of what is left beside it."""


@dataclass(slots=True)
class Keeper:
    """Keeps the store within its bounds; used by the thread that writes.

    age_ns: what is older goes. size: bytes of the file that may hold data.

    >>> Keeper(database, age_ns=24 * 3600 * 10**9, size=2 << 30).run(time.time_ns())
    """

    database: Database
    age_ns: int
    size: int
    _gathered: int = 0
    _thinned: int = 0

    def run(self, now: int) -> bool:
        """Everything that is due; True if something was deleted."""
        self._gather(now)
        oldest = self._oldest()
        cut = now - self.age_ns
        over = self._over()
        if over:
            cut = max(cut, self._where_the_oldest_part_ends(max(over, _PART)))
        elif oldest is not None and oldest + SLACK_NS >= cut:
            return False
        if oldest is None or oldest >= cut:
            return False
        self._delete(cut)
        return True

    def _over(self) -> float:
        """Which part of the store is more than it may be; 0.0: none."""
        if self.database.bytes() <= self.size:
            return 0.0
        self.database.checkpoint()  # its log takes several times the room
        return max(1 - self.size / max(self.database.bytes(), 1), 0.0)

    def _gather(self, now: int) -> None:
        """Partial rows become one a key."""
        if self._gathered > now:  # the clock was set back
            self._gathered = self._thinned = 0
        self._gathered = self._gather_until(now - SETTLED_NS, self._gathered or now - FINE_FOR_NS, FINE_NS)
        self._thinned = self._gather_until(now - FINE_FOR_NS, self._thinned or now - self.age_ns, COARSE_NS)

    def _gather_until(self, until: int, since: int, step: int) -> int:
        since, until = since - since % step, until - until % step
        if until <= since:
            return since
        for name, (keys, values) in _SUMS.items():
            wanted = ", ".join(f"least(sum({value}), {2**64 - 1})::UBIGINT AS {value}" for value in values.split(", "))
            with self.database.transaction() as cursor:
                cursor.execute(
                    f"CREATE OR REPLACE TEMP TABLE gathered AS SELECT {keys}, {wanted} "
                    f"FROM (SELECT * REPLACE (time - time % {step} AS time) FROM {name} "
                    "WHERE time >= ? AND time < ?) GROUP BY ALL",
                    [since, until],
                )
                cursor.execute(f"DELETE FROM {name} WHERE time >= ? AND time < ?", [since, until])
                cursor.execute(f"INSERT INTO {name} SELECT * FROM gathered")
                cursor.execute("DROP TABLE gathered")
        return until

    def _oldest(self) -> int | None:
        times = [f"SELECT min({column}) AS time FROM {name}" for name, column in _TIMES.items()]
        found = self.database.rows(f"SELECT min(time) AS oldest FROM ({' UNION ALL '.join(times)})")[0]["oldest"]
        return int(str(found)) if found is not None else None

    def _where_the_oldest_part_ends(self, part: float) -> int:
        """The time before which this part of everything lies."""
        times = [f"SELECT {_TIMES[name]} AS time FROM {name}" for name in _STORED]
        found = self.database.rows(
            f"SELECT approx_quantile(time, {part:.4f}) AS cut FROM ({' UNION ALL '.join(times)})"
        )[0]["cut"]
        return int(str(found)) if found is not None else 0

    def _delete(self, cut: int) -> None:
        with self.database.transaction() as cursor:
            for name, column in _TIMES.items():
                cursor.execute(f"DELETE FROM {name} WHERE {column} < ?", [cut])
            used = " UNION ".join(f"SELECT DISTINCT resource FROM {name}" for name in _STORED)
            cursor.execute(f"DELETE FROM resources WHERE id NOT IN ({used})")
        self.database.checkpoint()
