"""Every spelling of spellings.txt over sockets: through the edge, and through nginx.

The attacks that a prefix as the bound of access has to hold are among them.
"""

import getpass
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.routing.spellings import Spelling, spellings
from tests.harness import Conversation, Edge, Upstream, connect
from tests.messages import ok, request
from tests.programs import free_port, needs, path_of, wait_for_port

SETS = [list(group) for _, group in itertools.groupby(spellings(), key=lambda each: each.routes)]
"""The spellings by the routes that they are for."""


@pytest.mark.parametrize("spelled", SETS, ids=lambda each: " ".join(each[0].routes) or "no prefix")
def test_the_upstream_gets_what_the_table_says(
    edge: Edge, conversation: Conversation, spelled: list[Spelling]
) -> None:
    edge.unroutes("app.test")
    upstreams = {prefix: Upstream(conversation) for prefix in spelled[0].routes}
    for prefix, options in spelled[0].routes.items():
        edge.routes(f"app.test{prefix}", upstreams[prefix].target, **options)
    for each in spelled:
        client = edge.connects()
        client.sends(request(f"{'OPTIONS' if each.target == '*' else 'GET'} {each.target}"))
        if each.edge.status == 200:
            connection = upstreams[each.edge.prefix].accepts()
            assert connection.receives_request().target == each.edge.target, each.target
            connection.sends(ok("hello", "Connection: close"))
        answer = client.receives_response()
        assert answer.status == each.edge.status, each.target
        assert answer.closes() == (answer.status == 400)
    for upstream in upstreams.values():
        upstream.accepts_nothing()


NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        server_name app.test;
{locations}
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path, conversation: Conversation) -> Iterator[tuple[int, dict[str, Upstream]]]:
    """Its port, and an upstream by prefix, for the routes that the table compares it on."""
    routes = next(each.routes for each in spellings() if each.nginx is not None)
    upstreams = {prefix: Upstream(conversation) for prefix in routes}
    locations = []
    for prefix, options in routes.items():
        address = f"http://{upstreams[prefix].target}{'/' if 'strip' in options else ''}"
        for place in (f"= {prefix}", f"{prefix}/") if prefix else ("/",):
            locations.append(f"location {place} {{ proxy_pass {address}; }}")
    port = free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(NGINX.format(folder=tmp_path, port=port, locations="\n".join(locations)))
    # As root it would give its workers up to nobody, who may not enter the folder.
    user = f"user {getpass.getuser()};"
    arguments = [path_of("nginx"), "-c", str(conf), "-p", str(tmp_path), "-g", user]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            yield port, upstreams
        finally:
            process.terminate()


@needs("nginx")
def test_nginx_does_what_the_table_says(
    nginx: tuple[int, dict[str, Upstream]], conversation: Conversation
) -> None:
    port, upstreams = nginx
    compared = [each for each in spellings() if each.nginx is not None]
    assert compared
    for each in compared:
        client = connect(conversation, ("127.0.0.1", port))
        client.sends(request(f"GET {each.target}", "Connection: close"))
        assert each.nginx is not None
        if each.nginx.status == 200:
            connection = upstreams[each.nginx.prefix].accepts()
            assert connection.receives_request().target == each.nginx.target, each.target
            connection.sends(ok("hello", "Connection: close"))
        assert client.receives_response().status == each.nginx.status, each.target
