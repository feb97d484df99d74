"""The origin: an nginx that plays the application behind the proxies."""

import os
from pathlib import Path

from bench.process import Process, free_port

# With the fields that nginx adds by itself (Server, Date, Content-Type, Content-Length,
# Connection) these make a head of 12 fields.
_FIELDS = """
      add_header Cache-Control "private, max-age=0, must-revalidate";
      add_header Vary "Accept-Encoding, Cookie";
      add_header X-Content-Type-Options "nosniff";
      add_header Strict-Transport-Security "max-age=31536000; includeSubDomains";
      add_header X-Frame-Options "SAMEORIGIN";
"""

_POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-$request_id' https://cdn.example.test; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; frame-ancestors 'none'"
)

_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type text/html;
  sendfile on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_timeout 1h;
  client_body_buffer_size 11m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{other_port} backlog=4096;
    root {folder}/www;
    location = /small {{ return 200 "ok"; }}
    location = /which {{ return 200 "$server_port"; }}
    location /products/ {{ {fields}
      add_header ETag '"5f3c2a-400"';
      add_header Set-Cookie "seen=1; Path=/; HttpOnly; SameSite=Lax";
      return 200 "{kib}";
    }}
    # Heads of which no two are alike, as those of the requests (bench.heads).
    location /varied/page/ {{ {fields}
      add_header Content-Security-Policy "{policy}";
      add_header Referrer-Policy "strict-origin-when-cross-origin";
      add_header ETag 'W/"$request_id"';
      add_header Set-Cookie "session=$request_id$request_id; Path=/; Secure; HttpOnly";
      add_header Set-Cookie "last_seen=$msec; Path=/; Max-Age=31536000; Secure; SameSite=Lax";
      add_header Server-Timing "app;dur=$msec";
      return 200 "{kib}";
    }}
    location /varied/asset/ {{
      default_type application/javascript;
      add_header Cache-Control "public, max-age=31536000, immutable";
      add_header ETag '"$request_id"';
      add_header Last-Modified "Tue, 14 Oct 2025 09:12:44 GMT";
      add_header Access-Control-Allow-Origin "*";
      add_header Vary "Accept-Encoding";
      add_header X-Content-Type-Options "nosniff";
      return 200 "{kib}";
    }}
    location /varied/api/ {{
      default_type application/json;
      add_header Cache-Control "no-store";
      add_header Vary "Origin, Authorization";
      add_header X-Request-Id $request_id;
      add_header X-RateLimit-Limit "5000";
      add_header X-RateLimit-Reset $msec;
      add_header traceresponse "00-$request_id-00f067aa0ba902b7-01";
      add_header Strict-Transport-Security "max-age=31536000; includeSubDomains";
      return 200 "{kib}";
    }}
    # sub_filter cannot know the length of what it makes, so nginx sends chunks: four of 4 KiB.
    location /chunked/ {{
      sendfile off;
      output_buffers 4 4k;
      sub_filter_types *;
      sub_filter "never there" "";
      sub_filter_once off;
    }}
    # Passing it on makes nginx read the whole body first; `return` alone answers at once.
    location = /upload {{
      proxy_pass http://127.0.0.1:{port}/read;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Content-Type "";
    }}
    location = /read {{ return 204; }}
  }}
}}
"""


def origin_config(folder: Path, port: int, other_port: int) -> str:
    return _CONFIG.format(
        folder=folder,
        port=port,
        other_port=other_port,
        fields=_FIELDS,
        policy=_POLICY,
        kib="x" * 1024,
    )


def start_origin(parent: Path, core: int) -> tuple[Process, int]:
    """Start the origin on one core; returns it and a second port on which it listens."""
    folder = parent / "origin"
    for path, size in (("files/64k", 64 << 10), ("files/10m", 10 << 20), ("chunked/16k", 16 << 10)):
        file = folder / "www" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
    port, other_port = free_port(), free_port()
    config = folder / "nginx.conf"
    config.write_text(origin_config(folder, port, other_port))
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"]
    origin = Process("the origin", command, cores=[core], folder=folder, port=port)
    try:
        origin.wait_until_served("localhost", "/small")
    except BaseException:
        origin.stop()
        raise
    return origin, other_port
