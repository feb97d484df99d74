"""Owns the first moment of the edge's program.

Signals that are commands to an edge would end a process that does not know them yet. Where one is
about to run, they are held back before anything else is imported, until it takes them.
"""

import os
import signal
import sys
from collections.abc import Sequence


def hold_commands(arguments: Sequence[str]) -> None:
    """Block SIGHUP, SIGUSR1 and SIGUSR2 if `fairlead` with these arguments runs an edge."""
    if arguments[:1] == ["up"] or (arguments[:1] == ["edge"] and "upgrade" not in arguments):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))


def serve_plainly(arguments: Sequence[str]) -> None:
    """If all that is asked for is `fairlead edge`, run it and exit.

    Without a flag nobody needs the command line, whose import is a twelfth of a start.
    """
    if arguments != ["edge"]:
        return
    from edge.errors import FairleadError
    from edge.settings.settings import given_texts, load

    try:
        load({}, os.environ)  # what is wrong is named by its variable
        from edge.supervisor.start import run

        sys.exit(run(given_texts({}, os.environ)))
    except FairleadError as error:
        from edge.cli.exit_code import ExitCode
        from edge.cli.output import print_problems

        print_problems([str(error)])
        sys.exit(ExitCode.of(error))
