"""Databases of routes."""

from pathlib import Path

import pytest

from tests.edge.routing.stores import GODEPLOY, sql


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def godeploy(db: Path) -> Path:
    """A database as godeploy-platform leaves it: rollback journal, no column of options."""
    sql(db, GODEPLOY)
    return db
