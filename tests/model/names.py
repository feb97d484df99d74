"""Owns what the hosts, upstreams and apps of a world are called."""

from typing import Final

HOSTS: Final = ("one.test", "two.test", "three.test")
"""Whose routes an operator sets."""
UPSTREAMS: Final = ("192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
"""They always answer."""
APPS: Final = ("ant", "bee", "cat")
WIDER: Final = "*"
"""A route that takes the hosts which have none of their own."""


def host_of(app: str) -> str:
    """The domain of an app."""
    return f"{app}.local"
