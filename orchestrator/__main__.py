"""`python -m orchestrator` is `fairlead orchestrator`."""

import sys

import click

from edge.errors import ConfigError, FairleadError
from orchestrator.cli.commands import orchestrator


def main() -> None:
    """Run the orchestrator with the arguments of this process, and exit."""
    try:
        orchestrator(prog_name="python -m orchestrator")
    except FairleadError as error:
        click.echo(f"fairlead: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
