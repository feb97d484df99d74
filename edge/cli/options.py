"""Owns the flags that are made from settings, those of the edge and of what is beside it."""

import click

from edge.settings.schema import Setting


def setting_flag(setting: Setting) -> click.Option:
    """The flag of a setting. It stays text: `load` parses what comes from any source."""
    return click.Option([setting.flag, setting.name], metavar="VALUE", help=setting.help)
