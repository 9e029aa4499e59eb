"""The names that container runtimes give to containers, read from the files that they keep on the host.

No runtime is asked through its socket: files answer in microseconds, need no client, and cannot block.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from otel_ebpf.resource.cgroup import Place

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
_MOST = 4 << 20
_DOCKER = "var/lib/docker/containers/{id}/config.v2.json"
_OCI = (
    # The OCI bundles of containerd (CRI, nerdctl, ctr, by namespace) and of podman and CRI-O (one storage).
    "run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "var/lib/containers/storage/overlay-containers/{id}/userdata/config.json",
    "run/containers/storage/overlay-containers/{id}/userdata/config.json",
)
_PODMAN = "var/lib/containers/storage/*-containers/containers.json"
_NAME_LABELS = (
    "com.docker.compose.service",
    "io.kubernetes.container.name",
    "io.kubernetes.cri.container-name",
    "nerdctl/name",
)
_IMAGE_LABELS = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Container:
    """A container. name: what compose, Kubernetes or the user called it; image: as it was asked for, with its tag."""

    id: str
    name: str = ""
    image: str = ""
    runtime: str = ""


def container(where: Place, root: Path = Path("/")) -> Container | None:
    """The container of a process in this place; None if it is in none. root: where the host's files are."""
    if where.container:
        known = _docker(where.container, root) or _oci(where.container, root) or _podman(where.container, root)
        return known or Container(where.container, runtime=where.runtime)
    if not where.machine:
        return None
    if where.namespace:
        return _oci(where.machine, root, where.namespace)
    return Container(where.machine, where.machine)


def _docker(id: str, root: Path) -> Container | None:
    state = _mapping(_json(root / _DOCKER.format(id=id)))
    if not state:
        return None
    config = _mapping(state.get("Config"))
    name = _named(_mapping(config.get("Labels"))) or _text(state.get("Name")).lstrip("/")
    return Container(id, name, _text(config.get("Image")), "docker")


def _oci(id: str, root: Path, namespace: str = "*") -> Container | None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", id) or not re.fullmatch(r"\*|[A-Za-z0-9._-]+", namespace):
        return None
    for pattern in _OCI if namespace == "*" else _OCI[:1]:
        for path in _found(root, pattern.format(id=id).replace("*", namespace)):
            annotations = _mapping(_mapping(_json(path)).get("annotations"))
            image = next((text for label in _IMAGE_LABELS if (text := _text(annotations.get(label)))), "")
            name = _named(annotations) or (id if namespace != "*" else "")
            if name or image:
                return Container(id, name, image, "containerd" if "containerd" in pattern else "cri-o")
    return None


def _podman(id: str, root: Path) -> Container | None:
    for path in _found(root, _PODMAN):
        state = _json(path)
        for entry in state if isinstance(state, list) else []:
            if isinstance(entry, dict) and entry.get("id") == id:
                names = entry.get("names")
                metadata = _mapping(_parsed(_text(entry.get("metadata"))))
                name = _text(names[0]) if isinstance(names, list) and names else ""
                return Container(id, name, _text(metadata.get("image-name")), "podman")
    return None


def _named(labels: dict[str, Json]) -> str:
    return next((text for label in _NAME_LABELS if (text := _text(labels.get(label)))), "")


def _found(root: Path, pattern: str) -> list[Path]:
    try:
        return list(root.glob(pattern))
    except OSError:  # a directory that may not be looked into says as little as one that is not there
        return []


def _json(path: Path) -> Json:
    try:
        with path.open("rb") as file:
            return _parsed(file.read(_MOST).decode(errors="replace"))
    except OSError:
        return None


def _parsed(text: str) -> Json:
    try:
        found: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
