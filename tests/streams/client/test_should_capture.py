"""The producers' library: what it captures."""

from __future__ import annotations

import pytest

from schemas.settings import Settings
from streams.client import should_capture

ON = {"ENABLE_TIER3_CAPTURE": "true"}
SETTINGS = Settings()


@pytest.mark.parametrize("environ", [{}, {"ENABLE_TIER3_CAPTURE": "false"}, {"ENABLE_TIER3_CAPTURE": "1"}])
def test_nothing_is_captured_unless_asked_for(environ: dict[str, str]) -> None:
    assert not any(should_capture(str(i), 1.0, SETTINGS, environ) for i in range(100))


def test_every_confident_call_is_captured() -> None:
    assert all(should_capture(str(i), 0.9, SETTINGS, ON) for i in range(100))


@pytest.mark.parametrize("confidence", [None, 0.0, 0.899])
def test_about_the_set_share_of_the_rest_is_captured(confidence: float | None) -> None:
    captured = sum(should_capture(f"trace-{i}", confidence, SETTINGS, ON) for i in range(10_000))
    assert captured == pytest.approx(1500, abs=150)


def test_choice_depends_on_the_trace_alone() -> None:
    chosen = [should_capture(f"trace-{i}", 0.1, SETTINGS, ON) for i in range(100)]
    assert chosen == [should_capture(f"trace-{i}", 0.5, SETTINGS, ON) for i in range(100)]


def test_rate_can_be_none_or_all() -> None:
    for rate, expected in ((0.0, 0), (1.0, 1000)):
        settings = Settings.model_validate({"traces": {"capture_rate": rate}})
        assert sum(should_capture(str(i), 0.1, settings, ON) for i in range(1000)) == expected
