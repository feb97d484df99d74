"""What the engine is asked to make, and how its answers are read."""

from dataclasses import replace

import pytest

from orchestrator.engine.container import (
    CAPABILITIES,
    ContainerSpec,
    create_body,
    exposed_port,
    parse_event,
    parse_image,
)

SPEC = ContainerSpec(
    name="fairlead-sim-3",
    image="fairlead/sim:1",
    app="sim",
    deploy=3,
    release="r1",
    network="fairlead-sim-ours",
    address="10.213.0.2",
    port=3000,
    env={"PORT": "3000", "NAME": "a=b"},
    memory=268435456,
    cpus=0.5,
)


def test_a_container_is_asked_for_with_all_its_guards() -> None:
    assert create_body(SPEC, "ours", "/run/engine.sock") == {
        "Image": "fairlead/sim:1",
        "Env": ["PORT=3000", "NAME=a=b"],
        "ExposedPorts": {"3000/tcp": {}},
        "Labels": {
            "fairlead.managed": "true",
            "fairlead.app.name": "sim",
            "fairlead.deploy": "3",
            "fairlead.release": "r1",
            "fairlead.port": "3000",
            "fairlead.instance": "ours",
        },
        "HostConfig": {
            "NetworkMode": "fairlead-sim-ours",
            "PortBindings": {},
            "Binds": [],
            "Memory": 268435456,
            "MemorySwap": 268435456,
            "NanoCpus": 500_000_000,
            "PidsLimit": 512,
            "ShmSize": 67_108_864,
            "StorageOpt": {},
            "ReadonlyRootfs": False,
            "Tmpfs": {},
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "Init": True,
        },
        "NetworkingConfig": {
            "EndpointsConfig": {"fairlead-sim-ours": {"IPAMConfig": {"IPv4Address": "10.213.0.2"}}}
        },
    }


def test_a_read_only_container_has_a_bounded_tmp_in_memory() -> None:
    body = create_body(replace(SPEC, read_only=True, tmp_size=8192), "ours", "/run/engine.sock")
    assert body["HostConfig"]["ReadonlyRootfs"]
    options = {"/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=8192"}
    assert body["HostConfig"]["Tmpfs"] == options


def test_a_limit_of_its_files_is_the_engines_quota() -> None:
    body = create_body(replace(SPEC, disk_size=8192), "ours", "/run/engine.sock")
    assert body["HostConfig"]["StorageOpt"] == {"size": "8192"}


def test_a_container_is_published_on_the_port_that_is_its_apps_alone() -> None:
    body = create_body(replace(SPEC, host_port=20000), "ours", "/run/engine.sock")
    bindings = {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20000"}]}
    assert body["HostConfig"]["PortBindings"] == bindings


@pytest.mark.parametrize(
    ("ports", "chosen"),
    [
        (None, None),
        ({}, None),
        ({"53/udp": {}}, None),
        ({"3000/tcp": {}}, 3000),
        ({"80/tcp": {}, "8080/tcp": {}}, 8080),
        ({"9090/tcp": {}, "443/tcp": {}}, 443),
    ],
)
def test_the_port_of_an_image_is_chosen(
    ports: dict[str, dict[str, str]] | None, chosen: int | None
) -> None:
    assert exposed_port({"Config": {"ExposedPorts": ports}}) == chosen


def test_an_image_without_a_config_exposes_nothing() -> None:
    assert exposed_port({"Config": None}) is None


def test_labels_that_are_not_ours_are_no_deploy() -> None:
    labels = {"fairlead.deploy": "not a number"}
    event = {"Action": "die", "Actor": {"ID": "1", "Attributes": labels}}
    assert parse_event(event).deploy == 0
    image = {"Id": "1", "RepoTags": ["<none>:<none>"], "Labels": None, "Created": 1, "Size": 2}
    assert parse_image(image).tags == ()
