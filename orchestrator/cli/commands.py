"""Owns the commands that the orchestrator adds to `fairlead`.

What only one command needs is imported there, as this module is imported for each of them.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import output

if TYPE_CHECKING:
    from orchestrator.cli.client import ApiClient
    from orchestrator.settings import Settings


class _Daemon(click.Command):
    """Its flags are the settings."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from edge.cli.options import setting_flag
        from orchestrator.settings import SETTINGS

        return [*map(setting_flag, SETTINGS), *super().get_params(ctx)]


@click.command(cls=_Daemon)
def orchestrator(**flags: str | None) -> None:
    """Run the orchestrator: deploy what webhooks and operators ask for, until SIGTERM."""
    import asyncio

    from orchestrator.daemon import run, stop_with_supervisor
    from orchestrator.settings import load

    settings = load(flags, os.environ)
    stop_with_supervisor(os.environ)
    click.get_current_context().exit(asyncio.run(run(settings)))


def _settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that lead to an orchestrator; the command gets `settings`."""

    @click.option("--addr", metavar="ADDRESS", help="Where it is  [FAIRLEAD_ADDR, GODEPLOY_ADDR].")
    @click.option("--db", metavar="PATH", help="Its database  [FAIRLEAD_DB, GODEPLOY_DB].")
    @functools.wraps(command)
    def with_settings(addr: str | None, db: str | None, **others: Any) -> None:
        from orchestrator.settings import load

        settings = load({"addr": addr, "db": db}, os.environ)
        if addr:  # what is typed wins over what the environment says
            settings = dataclasses.replace(settings, log_ws_url="")
        command(**others, settings=settings)

    return with_settings


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    """As `_settings_options`; the command gets `client`."""

    @_settings_options
    @functools.wraps(command)
    def with_client(settings: "Settings", **others: Any) -> None:
        from orchestrator.cli.client import ApiClient

        command(**others, client=ApiClient(settings))

    return with_client


_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
_limit = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many."
)


@click.command()
@click.argument("app")
@click.option("--repo", metavar="URL", help="Where it is cloned from; known after the first time.")
@click.option("--ref", metavar="REF", help="Branch or commit; else the app's branch.")
@click.option("--domain", metavar="HOST", help="Where it is served; else APP.local.")
@click.option("--health-path", metavar="PATH", help="What has to answer before it is served.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0, 86_400),
    help="How long to wait for its end. 0: not at all; else until it ends.",
)
@_client_options
def deploy(
    app: str,
    repo: str | None,
    ref: str | None,
    domain: str | None,
    health_path: str | None,
    wait: float | None,
    client: "ApiClient",
) -> None:
    """Deploy APP, and show how it goes.

    The exit code is the result: 0 it is live, 1 it failed, 3 it was superseded or cancelled, 4 it
    has not ended yet after --wait.
    """
    from orchestrator.cli.watch import exit_code, watch

    wanted = {"repo": repo, "ref": ref, "domain": domain, "health_path": health_path}
    fields: dict[str, object] = {name: text for name, text in wanted.items() if text}
    number = int(client.ask("POST", "/api/deploys", {"app": app, **fields})["deploy_id"])
    click.echo(f"deploy {number} of {output.line(app)}")
    record = (
        client.ask("GET", f"/api/deploys/{number}")
        if wait == 0
        else watch(client, number, wait, click.echo)
    )
    code = exit_code(record)
    click.echo(_outcome(record), err=code != 0)
    click.get_current_context().exit(code)


def _outcome(record: Mapping[str, Any]) -> str:
    """The last line about a deploy."""
    name = f"deploy {record['id']}"
    match record["state"]:
        case "live" | "retired":
            domains = ", ".join(record["domains"])
            return output.line(
                f"{name} is {record['state']} after {record['duration_s']} s:"
                f" {domains} -> {record['target']}, {record['image_tag']}"
            )
        case "failed":
            said = output.lines(record["error"])
            return f"{name} failed in step {record['step']}: {said}"
        case "superseded":
            return f"{name} was superseded by deploy {record['superseded_by']}"
        case "cancelled":
            return f"{name} was cancelled"
        case state:
            return f"{name} is {state}: see `fairlead deploys {output.line(record['app'])}`"


@click.command()
@click.argument("app", required=False)
@_limit
@_as_json
@_client_options
def deploys(app: str | None, limit: int, as_json: bool, client: "ApiClient") -> None:
    """List the deploys, of all apps or of APP, newest first."""
    query: dict[str, str | int] = {"limit": limit} | ({"app": app} if app else {})
    answer = client.ask("GET", "/api/deploys", query=query)
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["id"],
            each["app"],
            each["state"],
            each["step"] or "-",
            each["commit"][:7] or "-",
            output.local_time(each["created_at"]),
            "-" if each["duration_s"] is None else f"{each['duration_s']:.1f} s",
            each["error"].partition("\n")[0] or each["target"],
        )
        for each in answer["deploys"]
    ]
    heading = ("ID", "APP", "STATE", "STEP", "COMMIT", "ASKED FOR", "TOOK", "TARGET OR ERROR")
    click.echo(output.table([heading, *rows]))


@click.command()
@click.argument("number", metavar="ID", type=click.IntRange(1))
@_client_options
def cancel(number: int, client: "ApiClient") -> None:
    """Cancel the deploy ID, if it has not reached the switch of its route."""
    record = client.ask("POST", f"/api/deploys/{number}/cancel")
    click.echo(_outcome(record))


@click.command()
@click.argument("container")
@_settings_options
def logtail(container: str, settings: "Settings") -> None:
    """Follow the log of a container until it ends: its name, id or the beginning of the id.

    It is read from FAIRLEAD_LOG_WS_URL (or GODEPLOY_LOG_WS_URL), unless --addr says where.
    """
    from websockets.exceptions import ConnectionClosedError

    from orchestrator.cli.client import ApiClient, ApiError

    with ApiClient(settings).follow_container(container) as websocket:
        try:
            for message in websocket:
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                click.echo(output.lines(text.removesuffix("\n")))
        except ConnectionClosedError as error:
            reason = error.rcvd.reason if error.rcvd else "the connection broke"
            raise ApiError(f"the log ends here: {output.line(reason)}") from None


@click.group()
def webhooks() -> None:
    """Show what came in as webhooks, and what was decided about it."""


@webhooks.command("ls")
@_limit
@_as_json
@_client_options
def list_webhooks(limit: int, as_json: bool, client: "ApiClient") -> None:
    """List the deliveries, newest first."""
    answer = client.ask("GET", "/api/webhooks", query={"limit": limit})
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["id"],
            output.local_time(each["received_at"]),
            each["provider"],
            each["event"],
            each["decision"] or "-",
            each["status"] or "-",
            each["deploy_id"] or "-",
            each["reason"],
        )
        for each in answer["webhooks"]
    ]
    heading = ("ID", "RECEIVED", "PROVIDER", "EVENT", "DECISION", "STATUS", "DEPLOY", "REASON")
    click.echo(output.table([heading, *rows]))


@webhooks.command("show")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@_client_options
def show_webhook(number: int, client: "ApiClient") -> None:
    """Show one delivery with its headers and its body, as JSON."""
    output.print_json(client.ask("GET", f"/api/webhooks/{number}"))


@webhooks.command("replay")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@_client_options
def replay_webhook(number: int, client: "ApiClient") -> None:
    """Decide about a delivery anew, as if it had just come, and show the answer."""
    answer = client.ask("POST", f"/api/webhooks/{number}/replay")
    if isinstance(answer, str):
        click.echo(output.lines(answer))
    else:
        output.print_json(answer)


@click.group(invoke_without_command=True)
@click.pass_context
def apps(context: click.Context) -> None:
    """Show the apps, or remove one."""
    if context.invoked_subcommand is None:
        context.invoke(list_apps)


@apps.command("ls")
@_as_json
@_client_options
def list_apps(as_json: bool, client: "ApiClient") -> None:
    """List the apps."""
    answer = client.ask("GET", "/api/apps")
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["name"],
            each["live_deploy"] or "-",
            each["branch"] or "-",
            ", ".join(each["domains"]),
            each["clone_url"],
        )
        for each in answer["apps"]
    ]
    click.echo(output.table([("NAME", "LIVE", "BRANCH", "DOMAINS", "REPOSITORY"), *rows]))


@apps.command("rm")
@click.argument("name")
@click.confirmation_option(prompt="Its routes, containers and images are removed. Go on?")
@_client_options
def remove_app(name: str, client: "ApiClient") -> None:
    """Remove an app: its routes, its containers and what is known of it."""
    client.ask("DELETE", f"/api/apps/{_in_path(name)}")
    click.echo(f"{output.line(name)} is removed")


def _in_path(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--db", metavar="PATH", help="The database  [FAIRLEAD_DB, GODEPLOY_DB].")
def backup(file: Path, db: str | None) -> None:
    """Copy the database with all that is known into FILE, while it is in use."""
    from orchestrator.settings import load
    from orchestrator.store.backup import back_up

    source = load({"db": db}, os.environ).db
    size = back_up(source, file)
    click.echo(f"{source} is backed up to {file} ({size} bytes)")
