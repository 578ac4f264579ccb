from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.jobs import tiny


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny base model."""
    return tiny.build_model(tmp_path_factory.mktemp("base"))
