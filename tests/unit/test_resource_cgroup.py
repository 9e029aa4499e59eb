"""Systemd units and containers, told by control groups and by the files of container runtimes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.resource.cgroup import Place, place
from otel_ebpf.resource.containers import Container, container

ID = "3f2a" * 16
OTHER = "77cc" * 16


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/nginx.service", "nginx"),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main"),
        ("/system.slice/system-worker.slice/worker@2.service", "worker"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service", "shop"),
        ("/system.slice/shop.service/sub/group", "shop"),
        (f"/docker/{ID}/system.slice/nginx.service", "nginx"),
        (f"/system.slice/shop.service/libpod-payload-{ID}", "shop"),
        # started by hand, or by a launcher of other people's programs
        ("/user.slice/user-1000.slice/session-3.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/tmux-spawn-0267755b.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", ""),
        ("/system.slice/ssh.service", ""),
        ("/system.slice/cron.service", ""),
        ("/system.slice/system-getty.slice/getty@tty1.service", ""),
        (f"/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:{ID}", ""),
        ("/init.scope", ""),
        ("/", ""),
    ],
)
def test_units(path: str, unit: str) -> None:
    assert place(f"0::{path}\n").unit == unit


@pytest.mark.parametrize(
    ("path", "id", "runtime"),
    [
        (f"/system.slice/docker-{ID}.scope", ID, "docker"),
        (f"/docker/{ID}", ID, "docker"),
        (f"/docker/{OTHER}/kubelet/kubepods/burstable/pod1/{ID}", ID, "docker"),
        (f"/kubepods/burstable/pod0c9d/{ID}", ID, ""),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID, "containerd"),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", ID, "cri-o"),
        (f"/kubepods.slice/kubepods-pod1.slice/docker-{ID}.scope/system.slice", ID, "docker"),
        (f"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}", ID, ""),
        (f"/machine.slice/libpod-{ID}.scope/container", ID, "podman"),
        (f"/libpod_parent/libpod-{ID}", ID, "podman"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID, "podman"),
        (f"/../../docker-{ID}.scope", ID, "docker"),
        (f"/ecs/{ID[:32]}/{ID[:32]}-1234567890", f"{ID[:32]}-1234567890", "containerd"),
        (f"/process_api/{ID[:32]}", "", ""),
        ("/system.slice/nginx.service", "", ""),
    ],
)
def test_containers(path: str, id: str, runtime: str) -> None:
    found = place(f"0::{path}\n")
    assert (found.container, found.runtime) == (id, runtime)


def test_version_1_hierarchies_are_put_together() -> None:
    text = f"4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}/system.slice/nginx.service\n0::/\n"
    assert place(text) == Place("nginx", ID, "docker")


@pytest.mark.parametrize(
    ("path", "machine", "namespace"),
    [
        ("/machine.slice/machine-web\\x2d1.scope/payload", "web-1", ""),
        ("/machine.slice/systemd-nspawn@web.service/payload", "web", ""),
        ("/lxc.payload.web/system.slice", "web", ""),
        ("/lxc/web", "web", ""),
        ("/k8s.io/c1", "c1", "k8s.io"),
        ("/a.slice/b.service", "", ""),
    ],
)
def test_machines(path: str, machine: str, namespace: str) -> None:
    found = place(f"0::{path}\n")
    assert (found.machine, found.namespace) == (machine, namespace)


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    place(text)
    place(f"0::{text}")


def write(root: Path, path: str, content: object) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content if isinstance(content, str) else json.dumps(content))


def test_docker_names_by_compose_then_by_the_user(tmp_path: Path) -> None:
    path = f"var/lib/docker/containers/{ID}/config.v2.json"
    write(tmp_path, path, {"Name": "/shop-web-1", "Config": {"Image": "acme/shop:1.2", "Labels": None}})
    assert container(Place(container=ID), tmp_path) == Container(ID, "shop-web-1", "acme/shop:1.2", "docker")
    labels = {"com.docker.compose.service": "web"}
    write(tmp_path, path, {"Name": "/shop-web-1", "Config": {"Image": "acme/shop:1.2", "Labels": labels}})
    found = container(Place(container=ID), tmp_path)
    assert found is not None and found.name == "web"


def test_kubernetes_names_in_the_bundle_of_containerd(tmp_path: Path) -> None:
    annotations = {
        "io.kubernetes.cri.container-name": "shop",
        "io.kubernetes.cri.image-name": "docker.io/acme/shop:1.2",
        "io.kubernetes.cri.container-type": "container",
    }
    write(
        tmp_path, f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json", {"annotations": annotations}
    )
    found = container(Place(container=ID, runtime="containerd"), tmp_path)
    assert found == Container(ID, "shop", "docker.io/acme/shop:1.2", "containerd")


def test_cri_o_and_podman_share_their_storage(tmp_path: Path) -> None:
    bundle = f"var/lib/containers/storage/overlay-containers/{ID}/userdata/config.json"
    write(tmp_path, bundle, {"annotations": {"io.kubernetes.container.name": "shop"}})
    assert container(Place(container=ID), tmp_path) == Container(ID, "shop", "", "cri-o")
    listed = [{"id": OTHER, "names": ["cart"], "metadata": json.dumps({"image-name": "localhost/cart:2"})}]
    write(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", listed)
    assert container(Place(container=OTHER), tmp_path) == Container(OTHER, "cart", "localhost/cart:2", "podman")


def test_a_group_of_two_names_is_a_container_only_if_containerd_says_so(tmp_path: Path) -> None:
    where = place("0::/k8s.io/c1\n")
    assert container(where, tmp_path) is None
    path = "run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/config.json"
    write(tmp_path, path, {"ociVersion": "1.0"})
    assert container(where, tmp_path) == Container("c1", "c1", "", "containerd")
    assert container(Place(machine="../..", namespace="x"), tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"Config": 5}', '{"Name": 5, "Config": {"Labels": []}}'])
def test_damaged_state_of_a_runtime_leaves_the_id(tmp_path: Path, content: str) -> None:
    write(tmp_path, f"var/lib/docker/containers/{ID}/config.v2.json", content)
    write(tmp_path, f"run/containers/storage/overlay-containers/{ID}/userdata/config.json", content)
    write(tmp_path, "var/lib/containers/storage/overlay-containers/containers.json", content)
    found = container(Place(container=ID, runtime="docker"), tmp_path)
    assert found is not None and (found.id, found.name) == (ID, "")


def test_a_machine_is_its_own_name(tmp_path: Path) -> None:
    assert container(Place(machine="web"), tmp_path) == Container("web", "web")
    assert container(Place(unit="nginx"), tmp_path) is None
