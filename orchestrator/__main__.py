"""`python -m orchestrator` is `fairlead orchestrator`."""

import sys

from edge.cli import output
from edge.cli.exit_code import ExitCode
from edge.errors import FairleadError
from orchestrator.cli.commands import orchestrator


def main() -> None:
    """Run the orchestrator with the arguments of this process, and exit."""
    try:
        orchestrator(prog_name="python -m orchestrator")
    except FairleadError as error:
        output.print_problems([str(error)])
        sys.exit(ExitCode.of(error))


if __name__ == "__main__":
    main()
