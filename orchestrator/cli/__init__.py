"""The commands that the orchestrator adds to `fairlead`; nothing is imported for their list."""

from collections.abc import Mapping
from typing import Final

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "apps": ("orchestrator.cli.commands:apps", "List the apps, set options, link or remove them"),
    "backup": ("orchestrator.cli.commands:backup", "Copy the databases while they are in use"),
    "cancel": ("orchestrator.cli.commands:cancel", "Cancel a deploy"),
    "deploy": ("orchestrator.cli.commands:deploy", "Deploy an app, and follow its log"),
    "deploys": ("orchestrator.cli.commands:deploys", "List deploys"),
    "logtail": ("orchestrator.cli.commands:logtail", "Follow the log of a container"),
    "orchestrator": ("orchestrator.cli.commands:orchestrator", "Run the orchestrator alone"),
    "prune": ("orchestrator.cli.prune:prune", "Remove what is too old or too much"),
    "tokens": ("orchestrator.cli.tokens:tokens", "Create, list and revoke tokens of the API"),
    "webhooks": ("orchestrator.cli.commands:webhooks", "List, show and replay webhook deliveries"),
}
"""Name of a command: where it is, and its line in the list of `fairlead --help`."""

SIDECARS: Final[Mapping[str, str]] = {"orchestrator": "orchestrator.cli.commands:orchestrator"}
"""What `fairlead up` runs beside the edge: a package, and where its flags are declared."""
