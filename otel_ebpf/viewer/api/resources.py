"""Resources of services, and what they can be grouped by."""

from __future__ import annotations

from collections.abc import Collection

from otel_ebpf.viewer.api.values import attributes, text
from otel_ebpf.viewer.contract import Reader

_LOOKED_AT = 5000
_EACH = 20
_MOST_VALUES = 100
_NO_GROUPS = ("service.name", "service.version", "service.instance.id", "host.id", "container.id", "k8s.pod.uid")
_NO_GROUP_PREFIXES = ("telemetry.", "process.", "os.description", "otel_ebpf.")


def by_service(reader: Reader, services: Collection[str]) -> dict[str, list[dict[str, object]]]:
    """The resources of each service, the one that was seen first by the store last; at most 20 each."""
    rows = reader.rows(
        f"SELECT service, attributes FROM resources ORDER BY rowid DESC LIMIT {_LOOKED_AT}",
    )
    found: dict[str, list[dict[str, object]]] = {name: [] for name in services}
    for row in rows:
        kept = found.get(text(row["service"]))
        if kept is not None and len(kept) < _EACH:
            kept.append(attributes(row["attributes"]))
    return found


def group_of(resources: list[dict[str, object]], key: str) -> str | None:
    """The value of the newest resource that has the attribute."""
    return next((str(one[key]) for one in resources if one.get(key) not in (None, "")), None)


def groupings(resources: dict[str, list[dict[str, object]]]) -> list[str]:
    """The attributes that it makes sense to group by: not so many values that each has a group of its own."""
    values: dict[str, set[str]] = {}
    for several in resources.values():
        for one in several:
            for key, value in one.items():
                if key not in _NO_GROUPS and not key.startswith(_NO_GROUP_PREFIXES) and isinstance(value, (str, int)):
                    values.setdefault(key, set()).add(str(value))
    return sorted(key for key, found in values.items() if len(found) <= _MOST_VALUES)
