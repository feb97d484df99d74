"""Owns the commands about the tokens of the API."""

from typing import TYPE_CHECKING

import click

from edge.api.permission import Scope
from edge.cli import output
from orchestrator.cli.options import as_json_option, client_options, in_path

if TYPE_CHECKING:
    from orchestrator.cli.client import ApiClient

_DAY = 86_400


@click.group()
def tokens() -> None:
    """Create, list and revoke the tokens of the API."""


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the token may; admin is all. May be given several times.",
)
@click.option(
    "--app",
    "apps",
    metavar="APP",
    multiple=True,
    help="App that the token is limited to; default: all. May be given several times.",
)
@click.option(
    "--days",
    metavar="N",
    type=click.IntRange(1, 3650),
    help="Days until it expires; default: never.",
)
@client_options
def create_token(
    name: str,
    scopes: tuple[str, ...],
    apps: tuple[str, ...],
    days: int | None,
    client: "ApiClient",
) -> None:
    """Create the token NAME, and print it: this once, for only its hash is stored."""
    fields: dict[str, object] = {"name": name, "scope": " ".join(scopes)}
    if apps:
        fields["apps"] = " ".join(apps)
    if days is not None:
        fields["expires_in"] = str(days * _DAY)
    made = client.ask("POST", "/api/tokens", fields)
    click.echo(made["token"])
    if warning := made.get("warning"):
        click.echo(f"warning: {output.line(warning)}", err=True)


@tokens.command("ls")
@as_json_option
@client_options
def list_tokens(as_json: bool, client: "ApiClient") -> None:
    """List the tokens: what each may, and when it was last used."""
    answer = client.ask("GET", "/api/tokens")
    if as_json:
        output.print_json(answer)
        return

    def time_or(seconds: float | None, otherwise: str) -> str:
        return otherwise if seconds is None else output.local_time(seconds)

    rows = [
        (
            each["name"],
            " ".join(each["scopes"]),
            " ".join(each["apps"]) or "all",
            output.local_time(each["created_at"]),
            time_or(each["expires_at"], "never"),
            time_or(each["used_at"], "never"),
        )
        for each in answer["tokens"]
    ]
    click.echo(output.table([("NAME", "SCOPES", "APPS", "CREATED", "EXPIRES", "LAST USED"), *rows]))


@tokens.command("revoke")
@click.argument("name")
@client_options
def revoke_token(name: str, client: "ApiClient") -> None:
    """Revoke the token NAME: from now on it is refused."""
    client.ask("DELETE", f"/api/tokens/{in_path(name)}")
    click.echo(f"{output.line(name)} revoked")
