"""Owns the commands that the orchestrator adds to `fairlead`.

What only one command needs is imported there, as this module is imported for each of them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import output
from edge.cli.exit_code import ExitCode
from orchestrator.cli.options import as_json_option, client_options, in_path

if TYPE_CHECKING:
    from orchestrator.cli.client import ApiClient


class _Daemon(click.Command):
    """Its flags are the settings."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from edge.cli.options import setting_flag
        from orchestrator.settings import SETTINGS

        return [*map(setting_flag, SETTINGS), *super().get_params(ctx)]


@click.command(cls=_Daemon)
def orchestrator(**flags: str | None) -> None:
    """Run the orchestrator: deploy on webhooks and on request, until SIGTERM or SIGINT."""
    import asyncio

    from orchestrator.daemon import run, stop_with_supervisor
    from orchestrator.settings import load

    settings = load(flags, os.environ)
    stop_with_supervisor(os.environ)
    click.get_current_context().exit(asyncio.run(run(settings)))


_limit = click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Maximum number of entries.",
)


@click.command()
@click.argument("app")
@click.option("--repo", metavar="URL", help="Repository to clone; required once per app.")
@click.option("--ref", metavar="REF", help="Branch or commit to deploy; default: the app's branch.")
@click.option("--domain", metavar="HOST", help="Host to serve the app on; default: APP.local.")
@click.option(
    "--health-path",
    metavar="PATH",
    help="Path of the health check; default: the app's.",
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0, 86_400),
    help="Maximum time to wait for the end of the deploy; 0 does not wait; default: no limit.",
)
@client_options
def deploy(
    app: str,
    repo: str | None,
    ref: str | None,
    domain: str | None,
    health_path: str | None,
    wait: float | None,
    client: "ApiClient",
) -> None:
    """Deploy APP, and follow its log until it ends.

    The exit code is 0 if the deploy is live, 1 if it failed, 3 if it was cancelled or superseded,
    and 4 if it has not ended within --wait.
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
    click.echo(_outcome(record), err=code != ExitCode.OK)
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
@as_json_option
@client_options
def deploys(app: str | None, limit: int, as_json: bool, client: "ApiClient") -> None:
    """List the deploys of APP, or of all apps, newest first."""
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
            each["error"].partition("\n")[0] or _where(each),
        )
        for each in answer["deploys"]
    ]
    heading = ("ID", "APP", "STATE", "STEP", "COMMIT", "CREATED", "DURATION", "TARGET OR ERROR")
    click.echo(output.table([heading, *rows]))


def _where(record: Mapping[str, Any]) -> str:
    """The target of a deploy, or why a live one does not answer there."""
    return f"down: {record['down']}" if record["down"] else str(record["target"])


@click.command()
@click.argument("number", metavar="ID", type=click.IntRange(1))
@client_options
def cancel(number: int, client: "ApiClient") -> None:
    """Cancel the deploy ID.

    A deploy can be cancelled until its routes are switched to the new container.
    """
    record = client.ask("POST", f"/api/deploys/{number}/cancel")
    click.echo(_outcome(record))


@click.command()
@click.argument("container")
@client_options
def logtail(container: str, client: "ApiClient") -> None:
    """Follow the log of CONTAINER, a name, an id or the beginning of an id, until it stops.

    The log is read from FAIRLEAD_LOG_WS_URL (or GODEPLOY_LOG_WS_URL) if that is set, unless --addr
    is given.
    """
    from websockets.exceptions import ConnectionClosedError

    from orchestrator.cli.client import ApiError

    with client.follow_container(container) as websocket:
        try:
            for message in websocket:
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                click.echo(output.lines(text.removesuffix("\n")))
        except ConnectionClosedError as error:
            reason = error.rcvd.reason if error.rcvd else "the connection was lost"
            raise ApiError(f"the log was interrupted: {output.line(reason)}") from None


@click.group()
def webhooks() -> None:
    """List, show and replay webhook deliveries."""


@webhooks.command("ls")
@_limit
@as_json_option
@client_options
def list_webhooks(limit: int, as_json: bool, client: "ApiClient") -> None:
    """List the deliveries and what was decided about each, newest first."""
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
@client_options
def show_webhook(number: int, client: "ApiClient") -> None:
    """Show the delivery ID with its headers and body, as JSON."""
    output.print_json(client.ask("GET", f"/api/webhooks/{number}"))


@webhooks.command("replay")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@client_options
def replay_webhook(number: int, client: "ApiClient") -> None:
    """Process the delivery ID again as if it had just arrived, and show the response."""
    answer = client.ask("POST", f"/api/webhooks/{number}/replay")
    if isinstance(answer, str):
        click.echo(output.lines(answer))
    else:
        output.print_json(answer)


@click.group(invoke_without_command=True)
@click.pass_context
def apps(context: click.Context) -> None:
    """List the apps, set options, link or remove them, or forget all if their database is lost."""
    if context.invoked_subcommand is None:
        context.invoke(list_apps)


@apps.command("ls")
@as_json_option
@client_options
def list_apps(as_json: bool, client: "ApiClient") -> None:
    """List the apps.

    WRITTEN is what containers of the app have written, while the disk has too little room.
    """
    from edge.settings.syntax import size_text

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
            ", ".join(each["links"]) or "-",
            each["read_only"],
            "-" if each["written_bytes"] is None else size_text(each["written_bytes"]),
            each["clone_url"],
        )
        for each in answer["apps"]
    ]
    heading = ("NAME", "LIVE", "BRANCH", "DOMAINS", "REACHES", "READ-ONLY", "WRITTEN", "REPOSITORY")
    click.echo(output.table([heading, *rows]))


@apps.command("link")
@click.argument("name")
@click.argument("to")
@client_options
def link_app(name: str, to: str, client: "ApiClient") -> None:
    """Let the containers of the app NAME reach the app TO, at http://TO:PORT.

    Apps reach each other only where they are linked. For both directions, link both.
    """
    answer = client.ask("PUT", f"/api/apps/{in_path(name)}/links/{in_path(to)}")
    address = answer["address"] or f"{answer['to']}:PORT, once it is live"
    click.echo(output.line(f"{answer['app']} reaches {answer['to']} at http://{address}"))
    _say_if_unapplied(answer)


@apps.command("unlink")
@click.argument("name")
@click.argument("to")
@client_options
def unlink_app(name: str, to: str, client: "ApiClient") -> None:
    """Let the containers of the app NAME no longer reach the app TO.

    Connections between them that are open end.
    """
    answer = client.ask("DELETE", f"/api/apps/{in_path(name)}/links/{in_path(to)}")
    click.echo(output.line(f"{answer['app']} does not reach {answer['to']} any more"))
    _say_if_unapplied(answer)


def _say_if_unapplied(answer: Mapping[str, Any]) -> None:
    if not answer["applied"]:
        click.echo("not yet: the Docker Engine does not answer; done as soon as it does", err=True)


@apps.command("set")
@click.argument("name")
@click.option(
    "--read-only",
    required=True,
    type=click.Choice(("on", "off", "default")),
    help="on: containers of the app can write only to /tmp, which is memory then, and to what the"
    " image declares as VOLUME; off: anywhere; default: as FAIRLEAD_CONTAINER_READ_ONLY says.",
)
@client_options
def set_app(name: str, read_only: str, client: "ApiClient") -> None:
    """Set options of the app NAME, for containers made from now on: deploy it to make one."""
    answer = client.ask("PATCH", f"/api/apps/{in_path(name)}", {"read_only": read_only})
    click.echo(
        output.line(f"{answer['app']}: read-only {answer['read_only']}, from its next deploy")
    )


@apps.command("rm")
@click.argument("name")
@click.confirmation_option(prompt="Remove the app with its containers and images?")
@client_options
def remove_app(name: str, client: "ApiClient") -> None:
    """Remove the app NAME: its containers, images and records.

    Its routes keep their rules and answer 503, until `fairlead route rm` removes them or the app is
    deployed again.
    """
    client.ask("DELETE", f"/api/apps/{in_path(name)}")
    click.echo(f"{output.line(name)} removed; its routes answer 503 until `fairlead route rm`")


_db_option = click.option(
    "--db", metavar="PATH", help="Database of the routes.  [env var: FAIRLEAD_DB, GODEPLOY_DB]"
)
_state_db_option = click.option(
    "--state-db",
    metavar="PATH",
    help="Database of the orchestrator.  [env var: FAIRLEAD_STATE_DB; default: beside --db]",
)


@apps.command("forget")
@_db_option
@_state_db_option
def forget_apps(db: str | None, state_db: str | None) -> None:
    """Begin anew where the orchestrator's database is lost.

    An empty one is made in its place; without it, an orchestrator does not start beside routes of
    apps. Their containers run on, and are nobody's.
    """
    from orchestrator.engine.container import LABEL_INSTANCE
    from orchestrator.settings import load
    from orchestrator.store.split import begin_anew

    path = load({"db": db, "state_db": state_db}, os.environ).state_path
    begin_anew(path)
    click.echo(
        f"{path} is new: remove the containers of before (`docker ps --filter"
        f" label={LABEL_INSTANCE}`) and their routes"
    )


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_db_option
@_state_db_option
def backup(file: Path, db: str | None, state_db: str | None) -> None:
    """Copy the databases while they are in use: the routes to FILE, and what the orchestrator
    knows to FILE with .state.db for its ending.

    Files that exist are replaced once the copy is complete and checked. Credentials of clone URLs
    are not in it.
    """
    from edge.routing.shared_file import is_there
    from orchestrator.settings import load
    from orchestrator.store.backup import back_up

    settings = load({"db": db, "state_db": state_db}, os.environ)
    copies = {settings.db: file}
    if is_there(settings.state_path):
        # First: routes that are switched meanwhile are what a kill leaves, too.
        copies = {settings.state_path: file.with_suffix(".state.db"), **copies}
    for source, copy in copies.items():
        size = back_up(source, copy)
        click.echo(f"{source} backed up to {copy} ({size} bytes)")
