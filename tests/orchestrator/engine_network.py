"""Owns the network of one engine of the tests: a bridge and a range of addresses that are its own.

The engine makes no rules of the packet filter. An engine's rules have the same names in every
engine, and each one that starts clears them: two would undo each other's. What containers need of
them is three rules about the range: those here. Ports are published by docker-proxy.
"""

import fcntl
import ipaddress
import json
import os
import subprocess
from pathlib import Path

LOCKS = Path("/run/lock/fairlead-tests")
"""A file for each range, locked by the tests and by the engine that use it, until both are gone."""

RANGES = list(ipaddress.IPv4Network("198.18.0.0/15").subnets(new_prefix=20))
"""For tests of networks by RFC 2544: no network that this machine is in has them."""

NETWORK_PREFIX = 24

HALF = 1
"""The engine gives networks from the lower half of a range, the orchestrator from the upper one."""


class EngineNetwork:
    """A range that no other engine of any run on this machine uses, until it is closed.

    `lock` is the descriptor that says so. What a run that was killed has left in the range is
    removed first. Raises RuntimeError if all ranges are in use.
    """

    def __init__(self) -> None:
        number, self.lock = _claim()
        self.range = RANGES[number]
        self.bridge = f"fairlead-t{number}"
        self._pool, self.app_subnets = self.range.subnets(prefixlen_diff=HALF)
        self._clear()
        gateway = next(next(self.range.subnets(new_prefix=NETWORK_PREFIX)).hosts())
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{gateway}/{NETWORK_PREFIX}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for table, chain, *rule in self._rules():
            _iptables("-t", table, "-I", chain, *rule)

    @property
    def options(self) -> list[str]:
        """What dockerd is told of it."""
        return [
            f"--bridge={self.bridge}",
            f"--default-address-pool=base={self._pool},size={NETWORK_PREFIX}",
            "--iptables=false",
        ]

    def close(self) -> None:
        """Remove the bridge, those of the engine's own networks, and the rules."""
        self._clear()
        os.close(self.lock)

    def is_forgotten(self) -> None:
        """Remove what a kernel that starts anew knows nothing of: all but the engine's own bridge,
        and what was plugged into that."""
        bridges = self._bridges()
        for link in json.loads(_ip("-json", "link", "show", "type", "veth")):
            if link.get("master") in bridges:
                # It goes by itself when the last process of its other end is gone.
                subprocess.run(["ip", "link", "delete", link["ifname"]], stderr=subprocess.DEVNULL)
        for bridge in bridges:
            if bridge != self.bridge:
                _ip("link", "delete", bridge)

    def _bridges(self) -> list[str]:
        return [
            link["ifname"]
            for link in json.loads(_ip("-json", "-4", "address", "show"))
            if any(ipaddress.ip_address(one["local"]) in self.range for one in link["addr_info"])
        ]

    def _clear(self) -> None:
        for bridge in self._bridges():
            _ip("link", "delete", bridge)
        for table, chain, *rule in self._rules():
            while _iptables("-t", table, "-D", chain, *rule, check=False):
                pass

    def _rules(self) -> list[list[str]]:
        """Table, chain and rule: out into the world by the machine's address, and back."""
        inside = str(self.range)
        answers = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
        return [
            ["nat", "POSTROUTING", "-s", inside, "!", "-d", inside, "-j", "MASQUERADE"],
            ["filter", "FORWARD", "-s", inside, "-j", "ACCEPT"],
            ["filter", "FORWARD", "-d", inside, *answers, "-j", "ACCEPT"],
        ]


class OrdinaryNetwork:
    """That of an engine that makes its own rules, as on every machine: for one that is alone in a
    network namespace."""

    bridge = "none"
    range = app_subnets = ipaddress.IPv4Network("10.213.0.0/16")

    def __init__(self) -> None:
        # Where it asks for names that it does not know: a container's own loopback refuses at once.
        self.options = [f"--bridge={self.bridge}", "--dns=127.0.0.1"]
        self.lock = os.open(os.devnull, os.O_RDWR)

    def is_forgotten(self) -> None:
        """Remove all bridges, as a kernel that starts anew has none."""
        for link in json.loads(_ip("-json", "link", "show", "type", "bridge")):
            _ip("link", "delete", link["ifname"])


def _claim() -> tuple[int, int]:
    LOCKS.mkdir(parents=True, exist_ok=True)
    for number in range(len(RANGES)):
        lock = os.open(LOCKS / str(number), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number, lock
    raise RuntimeError(f"all {len(RANGES)} ranges of addresses are in use: see {LOCKS}")


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _iptables(*arguments: str, check: bool = True) -> bool:
    """Whether it was done."""
    said = None if check else subprocess.DEVNULL
    command = ["iptables", "--wait", *arguments]
    return subprocess.run(command, check=check, stderr=said).returncode == 0
