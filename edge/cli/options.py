"""Owns the flags that are made from settings."""

import click

from edge.settings.settings import Setting


def setting_flag(setting: Setting) -> click.Option:
    """The flag of a setting. It stays text: `load` parses what comes from any source."""
    sources = ", ".join(setting.variables)
    default = setting.default or "none"
    return click.Option(
        [setting.flag, setting.name],
        metavar="VALUE",
        help=f"{setting.meaning}  [{setting.unit}; {sources}; default: {default}]",
    )
