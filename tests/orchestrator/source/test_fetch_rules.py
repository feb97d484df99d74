"""Proves where the engine may fetch from, and whose images it may build on."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.errors import StepError
from orchestrator.source import fetch_rules
from orchestrator.source.fetch_rules import check, is_public
from orchestrator.source.fetches import Fetch


def checked(*fetched: Fetch, allowed: str = "public") -> None:
    asyncio.run(check(fetched, allowed=allowed, image_prefix="fairlead", app="shop"))


def refusal(fetch: Fetch, allowed: str = "public") -> str:
    with pytest.raises(StepError) as caught:
        checked(fetch, allowed=allowed)
    assert caught.value.kind == "unsafe_dockerfile"
    return str(caught.value)


def image(name: str) -> Fetch:
    return Fetch(1, "FROM", image=name)


def host(name: str) -> Fetch:
    return Fetch(1, "ADD", host=name)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("172.17.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_of_the_internet_or_not(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "::1", "[::1]"]
)
def test_no_spelling_of_this_machine_is_fetched_from(name: str) -> None:
    assert "no public address" in refusal(host(name))


@pytest.mark.parametrize("name", ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_no_registry_of_this_machine_is_asked(name: str) -> None:
    assert "no public address" in refusal(image(f"{name}/a:1"))


def test_a_name_with_a_capital_is_a_registry_to_newer_engines() -> None:
    assert "no public address" in refusal(image("LocalHost/a"))
    assert "was not found" in refusal(image("Registry/a"))


def test_each_address_of_a_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(*found: str) -> None:
        def getaddrinfo(*_: object, **__: object) -> Sequence[Any]:
            return [(0, 0, 0, "", (each, 0)) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    addresses("1.1.1.1", "2606:4700::1111")
    checked(host("good.test"), image("registry.good.test/a"))
    addresses("1.1.1.1", "10.0.0.1")
    assert "good.test' is at 10.0.0.1" in refusal(host("good.test"))


def test_names_that_nobody_answers_for_keep_no_other_deploy_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over = threading.Event()

    def getaddrinfo(name: str, *_: object, **__: object) -> Sequence[Any]:
        if name.startswith("silent"):
            is_over.wait()
        return [(0, 0, 0, "", ("1.1.1.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(fetch_rules, "LOOKUP_TIMEOUT", 0.01)
    try:
        for _ in range(4):  # as many as deploys of others end in the time that a thread is held
            with pytest.raises(StepError, match="timed out"):
                checked(*(host(f"silent-{number}.test") for number in range(20)))
        monkeypatch.setattr(fetch_rules, "LOOKUP_TIMEOUT", 60.0)
        checked(host("good.test"))
    finally:
        is_over.set()


def test_more_hosts_than_are_worth_asking_for_are_refused() -> None:
    many = [host(f"host-{number}.invalid") for number in range(1000)]
    with pytest.raises(StepError, match="more than 20 hosts"):
        checked(*many)


def test_a_name_that_is_not_found_is_refused() -> None:
    assert "was not found" in refusal(host("nothing.invalid"))
    assert "was not found" in refusal(host("x" * 300))


def test_the_setting_denies_all_or_allows_all() -> None:
    assert "FAIRLEAD_BUILD_FETCH is none" in refusal(host("1.1.1.1"), "none")
    assert "FAIRLEAD_BUILD_FETCH is none" in refusal(image("1.1.1.1:5000/a"), "none")
    checked(image("busybox"), image("a/b:1"), allowed="none")
    checked(host("127.0.0.1"), image("localhost:5000/a"), allowed="any")


@pytest.mark.parametrize("allowed", ["public", "none", "any"])
@pytest.mark.parametrize(
    "name",
    [
        "fairlead/other",
        "fairlead/other:20260101-000000-abcdef0",
        "fairlead/other@sha256:0",
        "docker.io/fairlead/other",
        "index.docker.io/fairlead/other:1",
        "DOCKER.IO/fairlead/other",
        "fairlead/shop/other",
        "fairlead/shopping",
    ],
)
def test_another_apps_image_is_refused_whatever_the_setting(name: str, allowed: str) -> None:
    assert "image of another app" in refusal(image(name), allowed)


@pytest.mark.parametrize("name", ["a", "0", "deadbeef", "sha256:" + "0" * 64])
def test_what_the_engine_takes_for_an_id_is_refused(name: str) -> None:
    assert "may be the id" in refusal(image(name), "any")


def test_images_of_its_own_and_of_the_engines_registry_are_fine() -> None:
    checked(image("fairlead/shop:1"), image("busybox"), image("library/a"), image("me/fairlead"))
