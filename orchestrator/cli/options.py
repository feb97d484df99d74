"""Owns what the commands that ask an orchestrator have in common."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import click


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that lead to an orchestrator; the command gets `client`."""

    @click.option(
        "--addr",
        metavar="ADDRESS",
        help="Address of an orchestrator elsewhere, which takes FAIRLEAD_API_TOKEN.  [env var:"
        " FAIRLEAD_ADDR, GODEPLOY_ADDR; default: the Unix socket beside --db]",
    )
    @click.option(
        "--db",
        metavar="PATH",
        help="Database of the orchestrator.  [env var: FAIRLEAD_DB, GODEPLOY_DB]",
    )
    @functools.wraps(command)
    def with_client(addr: str | None, db: str | None, **others: Any) -> None:
        from orchestrator.cli.client import ApiClient
        from orchestrator.settings import load

        settings = load({"addr": addr, "db": db}, os.environ)
        if addr:  # what is typed wins over what the environment says
            settings = dataclasses.replace(settings, log_ws_url="")
        command(**others, client=ApiClient(settings, is_named=bool(addr)))

    return with_client


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def in_path(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
