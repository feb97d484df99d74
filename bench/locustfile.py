"""A mixed load through Locust: pages of several hosts, uploads, downloads, a host without a route.

In one terminal, start an origin and an edge with routes for these hosts; it prints the address:

    python -m bench --serve

In another, for half a minute with 50 users, without the web page (leave out the last four options
for the page on http://127.0.0.1:8089):

    locust -f bench/locustfile.py --host http://127.0.0.1:PORT --headless -u 50 -r 10 -t 30s

Locust ends with 1 if a request failed. It measures the whole way, itself included, and is far
slower than the edge: numbers to compare are made by `make bench`.
"""

import random
from typing import Protocol

from locust import HttpUser, between, task

HOSTS = ("shop.example.test", *(f"app{number:05d}.example.test" for number in range(9)))
UPLOAD = bytes(256 * 1024)
DOWNLOAD_BYTES = 10 * 1024 * 1024


class Answer(Protocol):
    """What Locust's untyped answer has."""

    status_code: int
    content: bytes | None

    def success(self) -> None: ...
    def failure(self, exc: str) -> None: ...


def expect(answer: Answer, status: int, size: int | None = None) -> None:
    """Count an answer as good, also a 404, if it has this status and this many bytes."""
    got = len(answer.content or b"")
    if answer.status_code != status:
        answer.failure(f"expected {status}, got {answer.status_code}")
    elif size is not None and got != size:
        answer.failure(f"{got} of {size} bytes came")
    else:
        answer.success()


class Visitor(HttpUser):
    """One client with keep-alive connections, as a browser has them."""

    wait_time = between(0.01, 0.1)

    @task(20)
    def page(self) -> None:
        path = f"/products/summer/{random.randrange(1000)}"  # noqa: S311  load, no secret
        headers = {"Host": random.choice(HOSTS)}  # noqa: S311  load, no secret
        with self.client.get(path, headers=headers, name="page", catch_response=True) as answer:
            expect(answer, 200)

    @task(4)
    def upload(self) -> None:
        headers = {"Host": random.choice(HOSTS), "Content-Type": "application/octet-stream"}  # noqa: S311  load, no secret
        with self.client.post(
            "/upload", data=UPLOAD, headers=headers, name="upload", catch_response=True
        ) as answer:
            expect(answer, 204)

    @task(1)
    def download(self) -> None:
        headers = {"Host": random.choice(HOSTS)}  # noqa: S311  load, no secret
        with self.client.get(
            "/files/10m", headers=headers, name="download", catch_response=True
        ) as answer:
            expect(answer, 200, DOWNLOAD_BYTES)

    @task(2)
    def unknown_host(self) -> None:
        headers = {"Host": "nobody.example.test"}
        with self.client.get(
            "/", headers=headers, name="unknown host", catch_response=True
        ) as answer:
            expect(answer, 404)
