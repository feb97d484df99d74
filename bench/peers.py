"""The proxies that are compared: how each is configured and started in front of the origin.

All run on one core with one worker, unless a contender says otherwise; they keep up to 256 idle
connections to the origin (the edge's default), set the forwarding fields, and end no client
connection because of its number of requests. What else they do is their default.
"""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import edge
from bench.lab import Lab
from bench.process import Process, free_port
from bench.requests import HOST
from edge.routing.store_writer import RouteWriter

POOL_SIZE = 256
CONNECTIONS = 16_384


@dataclass(frozen=True, slots=True)
class Contender:
    """One proxy in one configuration, under the name that it has in the results."""

    name: str
    program: str  # a key of PROGRAMS; "direct" is the origin without a proxy
    access_log: bool = False
    streaming: bool = False  # nginx only: pass bodies on as they come, where it would spool them
    routes: int = 1  # the edge only
    settings: tuple[tuple[str, str], ...] = ()  # the edge only: further variables
    workers: int = 1  # processes, or threads, that serve; with more than one they have all cores


_NGINX = """
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
  log_format detailed escape=json '{{"time":"$time_iso8601","client":"$remote_addr",'
    '"host":"$host","method":"$request_method","path":"$request_uri","status":$status,'
    '"sent":$bytes_sent,"received":$request_length,"duration":$request_time,'
    '"upstream":"$upstream_addr","upstream_time":"$upstream_response_time",'
    '"request_id":"$request_id","protocol":"$server_protocol","agent":"$http_user_agent"}}';
  access_log {log};
  keepalive_timeout 2m;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_buffering {spool};
  proxy_request_buffering {spool};
  upstream origin {{
    server 127.0.0.1:{origin};
    keepalive {pool};
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"""

_HAPROXY = """
global
  nbthread {workers}
  maxconn {connections}
  no strict-limits
  {log}
defaults
  mode http
  timeout connect 5s
  timeout client 2m
  timeout server 60s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  {log_format}
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin} pool-max-conn {pool}
"""

_CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  {log}
  reverse_proxy 127.0.0.1:{origin} {{
    transport http {{
      keepalive_idle_conns {pool}
      keepalive_idle_conns_per_host {pool}
    }}
  }}
}}
"""


def _start_nginx(lab: Lab, contender: Contender, folder: Path, port: int) -> Process:
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=folder,
            workers=contender.workers,
            port=port,
            origin=lab.origin.port,
            pool=POOL_SIZE,
            connections=CONNECTIONS,
            spool="off" if contender.streaming else "on",
            log=f"{folder}/access.log detailed buffer=64k flush=1s"
            if contender.access_log
            else "off",
        )
    )
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"]
    return Process(
        contender.name, command, cores=lab.cores_for(contender.workers), folder=folder, port=port
    )


def _start_haproxy(lab: Lab, contender: Contender, folder: Path, port: int) -> Process:
    config = folder / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            workers=contender.workers,
            port=port,
            origin=lab.origin.port,
            pool=POOL_SIZE,
            connections=CONNECTIONS,
            log="log stdout format raw local0 info" if contender.access_log else "",
            log_format="log global\n  option httplog" if contender.access_log else "",
        )
    )
    command = ["haproxy", "-db", "-f", str(config)]
    return Process(
        contender.name, command, cores=lab.cores_for(contender.workers), folder=folder, port=port
    )


def _start_caddy(lab: Lab, contender: Contender, folder: Path, port: int) -> Process:
    config = folder / "Caddyfile"
    config.write_text(
        _CADDY.format(
            port=port,
            origin=lab.origin.port,
            pool=POOL_SIZE,
            log=f"log {{\n    output file {folder}/access.log\n  }}"
            if contender.access_log
            else "",
        )
    )
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    return Process(
        contender.name,
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)],
        cores=lab.cores_for(contender.workers),
        folder=folder,
        port=port,
        environ=os.environ | home | {"GOMAXPROCS": str(contender.workers)},
    )


def write_routes(database: Path, origin: int, count: int) -> None:
    """A route table of `count` routes: the bench's host, then app00001.example.test and so on.

    The writer makes the schema with the first route; the others go in beside it, because a
    transaction for each of 100,000 would take minutes.
    """
    target = f"127.0.0.1:{origin}"
    RouteWriter(database).set(HOST, target)
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO proxy_routes (domain, target, updated_at_unix) VALUES (?, ?, 0)",
            ((f"app{number:05d}.example.test", target) for number in range(count - 1)),
        )
    connection.close()


def edge_environ(
    database: Path, port: int, admin_port: int, access_log: str, workers: int
) -> dict[str, str]:
    """The environment of an edge: its addresses, its files, and as many clients as the others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FAIRLEAD_", "GODEPLOY_"))
    }
    return kept | {
        "FAIRLEAD_DB": str(database),
        "FAIRLEAD_HTTP_ADDR": f"127.0.0.1:{port}",
        "FAIRLEAD_ADMIN_ADDR": f"127.0.0.1:{admin_port}",
        "FAIRLEAD_ACCESS_LOG": access_log,
        "FAIRLEAD_WORKERS": str(workers),
        "FAIRLEAD_MAX_CONNECTIONS": str(CONNECTIONS),
    }


def _start_edge(lab: Lab, contender: Contender, folder: Path, port: int) -> Process:
    database = folder / "routes.db"
    write_routes(database, lab.origin.port, contender.routes)
    access_log = str(folder / "access.log") if contender.access_log else "off"
    return Process(
        contender.name,
        [sys.executable, "-m", "edge"],
        cores=lab.cores_for(contender.workers),
        folder=folder,
        port=port,
        environ=edge_environ(database, port, free_port(), access_log, contender.workers)
        | dict(contender.settings),
        cwd=Path(edge.__file__).parents[1],
    )


def _start_passthrough(lab: Lab, contender: Contender, folder: Path, port: int) -> Process:
    return Process(
        contender.name,
        [sys.executable, "-m", "bench.passthrough", str(port), str(lab.origin.port)],
        cores=lab.cores_for(contender.workers),
        folder=folder,
        port=port,
        cwd=Path(edge.__file__).parents[1],
    )


PROGRAMS: dict[str, Callable[[Lab, Contender, Path, int], Process]] = {
    "nginx": _start_nginx,
    "haproxy": _start_haproxy,
    "caddy": _start_caddy,
    "fairlead": _start_edge,
    "passthrough": _start_passthrough,
}


def launch(lab: Lab, contender: Contender) -> Process:
    """Start a proxy without waiting for its first answer."""
    folder = lab.new_folder(contender.program)
    return PROGRAMS[contender.program](lab, contender, folder, free_port())


@contextmanager
def running(lab: Lab, contender: Contender) -> Iterator[Process]:
    """A proxy that serves; it is stopped and its files, the access log too, are removed."""
    process = launch(lab, contender)
    try:
        with process:
            process.wait_until_served(HOST, "/small")
            yield process
    finally:
        shutil.rmtree(process.folder)
