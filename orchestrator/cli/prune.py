"""Owns the command that removes what is too old or too much."""

from typing import TYPE_CHECKING, Any

import click

from edge.cli import output
from edge.settings.syntax import size_text
from orchestrator.cli.options import as_json_option, client_options

if TYPE_CHECKING:
    from orchestrator.cli.client import ApiClient

SHOWN_NAMES = 3


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@as_json_option
@client_options
def prune(dry_run: bool, as_json: bool, client: "ApiClient") -> None:
    """Remove images, build cache, deliveries, records and logs that are too old or too much.

    The orchestrator does so by itself, as FAIRLEAD_KEEP_RELEASES, FAIRLEAD_HISTORY_AGE and
    FAIRLEAD_HISTORY_SIZE say. What is live, and the releases to go back to, always stay.
    """
    answers = [client.ask("GET" if dry_run else "POST", "/api/prune")]
    while answers[-1]["more"]:
        answers.append(client.ask("POST", "/api/prune"))
    kinds = _sums(answers)
    total = sum(kind["bytes"] for kind in kinds)
    if as_json:
        output.print_json({"pruned": kinds, "bytes": total, "dry_run": dry_run})
        return
    if not kinds:
        click.echo("nothing to remove")
        return
    rows = [(each["kind"], each["count"], size_text(each["bytes"]), _names(each)) for each in kinds]
    click.echo(output.table([("KIND", "COUNT", "SIZE", "NAMES"), *rows]))
    click.echo(f"{size_text(total)} {'would be' if dry_run else 'were'} removed")


def _sums(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All answers as one."""
    sums: dict[str, dict[str, Any]] = {}
    for each in (kind for answer in answers for kind in answer["pruned"]):
        found = sums.setdefault(each["kind"], {**each, "count": 0, "bytes": 0, "names": []})
        for field in ("count", "bytes", "names"):
            found[field] += each[field]
    return list(sums.values())


def _names(kind: dict[str, Any]) -> str:
    names, more = kind["names"][:SHOWN_NAMES], kind["count"] - SHOWN_NAMES
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
