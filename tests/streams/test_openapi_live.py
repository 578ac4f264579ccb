"""The intake against its own OpenAPI document: what the document says is answered, and nothing breaks the worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Deployment

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 20
"""Random ones of each operation; beside them some 400 that vary one thing each, the same in every run."""
TOKEN = "sesame"


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_intake_answers_as_its_openapi_document_says(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker(TIERSTREAM_WEB__TOKEN=TOKEN)
        arguments = ["--config-file", str(CONFIG), "run", f"{worker.url}/v1/openapi.json"]
        arguments += ["-H", f"Authorization: Bearer {TOKEN}", "--max-examples", str(EXAMPLES)]
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), *arguments, "--generation-deterministic", "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Tested: 4" in done.stdout
        stream.wait_until_idle()
        assert worker.end(120) == 0
