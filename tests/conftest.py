"""The brokers that live tests run on, and which one it was."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import hypothesis
import pytest

from tests import reaper
from tests.broker import LiveBroker, broker_in_use, broker_of_the_run, embedded_broker

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=500, deadline=None)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """Have whatever the run starts end with it; a process that shares the run's work is started by the run."""
    if not hasattr(config, "workerinput"):
        reaper.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the live tests: they wait more than they work, and the others fill the gaps up to the end."""
    items.sort(key=lambda item: item.get_closest_marker("live") is None)


@pytest.fixture(scope="session")
def broker() -> LiveBroker:
    """A broker: the one that TIERSTREAM_TEST_BOOTSTRAP names, Docker's, the embedded Apache Kafka, or lite."""
    return broker_of_the_run()


@pytest.fixture(scope="session")
def lite_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    """The fallback broker, for short cuts of live tests."""
    with embedded_broker(tmp_path_factory.mktemp("lite"), "lite") as lite:
        yield lite


@pytest.fixture
def bootstrap(broker: LiveBroker) -> str:
    """The broker's `HOST:PORT`."""
    return broker.bootstrap


@pytest.fixture
def prefix() -> str:
    """A topics prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(autouse=True)
def _safe_path_of_a_command_ends_with_its_test() -> Iterator[None]:
    """A command takes the working directory from the path of all that this process starts later: other tests, too."""
    before = os.environ.get("PYTHONSAFEPATH")
    yield
    os.environ.pop("PYTHONSAFEPATH", None)
    if before is not None:
        os.environ["PYTHONSAFEPATH"] = before


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which broker the live tests ran on."""
    used = broker_in_use()
    terminalreporter.write_line(f"live tests ran on: {f'{used.kind} at {used.bootstrap}' if used else 'no broker'}")
