"""Owns how the conversation is compiled, where mypyc is there; all else is in pyproject.toml.

What cannot be compiled is said, and is no reason to install nothing: the sources run.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).parent))
from edge.compiled import MODULES, library_file, library_name, shim_name, source_of

BUILDING = {"bdist_wheel", "build", "build_ext", "editable_wheel"}
"""The commands that compile. An installation calls this twice before, to ask for other things."""

# What Fairlead needs is not installed yet where it is built, so mypy sees none of it anywhere: one
# build is as the other. How strict the types are is for `make check` to say.
OPTIONS = [
    "--config-file=",
    "--no-site-packages",
    "--ignore-missing-imports",
    "--follow-imports=silent",
]


def extensions() -> list[Extension]:
    if not BUILDING.intersection(sys.argv):
        return []
    if "editable_wheel" in sys.argv and library_file().is_file():
        return []
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        print(f"the conversation is not compiled: {error}")
        return []
    root = Path(__file__).parent
    sources = [str(source_of(name).relative_to(root)) for name in MODULES]
    try:
        made = mypycify(
            [*OPTIONS, *sources], opt_level="2", debug_level="0", group_name=library_name()
        )
    except SystemExit:  # it has said why
        print("the conversation is not compiled: mypyc refuses it")
        return []
    for extension in made:
        extension.optional = True
        if extension.name in MODULES:
            extension.name = shim_name(extension.name)
    return made


# The library and the head codec side by side.
setup(ext_modules=extensions(), options={"build_ext": {"parallel": 2}})
