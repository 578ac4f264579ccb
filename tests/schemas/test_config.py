"""Where settings come from, and how those that cannot be are refused."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from schemas.config import allowed, cache_folder, load, setting_fields, setting_value
from schemas.errors import SettingsError
from schemas.settings import Settings

DEFAULTS = resources.files("config").joinpath("default.toml").read_text("utf-8")


def test_shipped_defaults_are_the_models() -> None:
    assert Settings.model_validate(tomllib.loads(DEFAULTS)) == Settings()
    assert load(None, {}, {}).settings == Settings()


def test_shipped_file_names_every_key_with_its_meaning() -> None:
    section, found = "", set()
    lines = DEFAULTS.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if match := re.fullmatch(r"\[(.+)\]", line):
            section = match[1] + "."
        elif match := re.match(r"#?(\w+) = ", line):
            found.add(section + match[1])
            assert before.startswith("# "), f"{section}{match[1]} has no comment"
    assert found == {key for key, _ in setting_fields()}


def test_each_source_wins_over_the_ones_before(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[scorer]\nrank = 4\nseed = 4\n[join]\nretention = "90s"\n')
    environ = {"TIERSTREAM_SCORER__RANK": "8", "TIERSTREAM_WEB__PORT": "1234"}
    loaded = load(file, environ, {"web.port": 0, "data_dir": None})
    chosen = {key: (setting_value(loaded.settings, key), loaded.sources[key]) for key in loaded.sources}
    assert chosen["scorer.rank"] == (8, "environment TIERSTREAM_SCORER__RANK")
    assert chosen["scorer.seed"] == (4, f"file {file}")
    assert chosen["join.retention"] == (90.0, f"file {file}")
    assert chosen["web.port"] == (0, "flag --web-port")
    assert chosen["data_dir"] == ("data", "default")
    assert chosen["web.token"] == (None, "default")


def test_every_key_has_a_source() -> None:
    assert load(None, {}, {}).sources == {key: "default" for key, _ in setting_fields()}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604800.0), ("250ms", 0.25), ("90", 90.0), ("1.5", 1.5), ("2 h", 7200.0)],
)
def test_variable_says_a_duration_with_unit_or_in_seconds(text: str, seconds: float) -> None:
    assert load(None, {"TIERSTREAM_JOIN__RETENTION": text}, {}).settings.join.retention == seconds


def test_variables_can_repeat_every_default() -> None:
    environ = {}
    for key, _ in setting_fields():
        value = setting_value(Settings(), key)
        environ["TIERSTREAM_" + key.upper().replace(".", "__")] = "" if value is None else str(value)
    assert load(None, environ, {}).settings == Settings()


def test_other_variables_of_the_project_are_no_settings() -> None:
    environ = {"TIERSTREAM_TEST_BOOTSTRAP": "x", "ENABLE_TIER3_CAPTURE": "true"}
    assert load(None, environ, {}).settings == Settings()


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("scorer.rank", "wide", "a whole number at least 1, at most 512"),
    ("scorer.rank", 0, "a whole number at least 1, at most 512"),
    ("scorer.rank", True, "a whole number at least 1, at most 512"),
    ("scorer.rank", [1], "a whole number at least 1, at most 512"),
    ("scorer.learning_rate", "nan", "a number above 0, at most 1"),
    ("scorer.seed", 2**32, "a whole number at least 0, below 4.29497e+09"),
    ("reward.user_weight", 1.5, "a number at least 0, at most 1"),
    ("pairs.one_to_one", "perhaps", "true or false"),
    ("pairs.user_confidence", -1, "a number at least 0, at most 1"),
    ("join.retention", "a week", "a duration above 0 such as 250ms, 90s or 7d"),
    ("join.retention", 0, "a duration above 0 such as 250ms, 90s or 7d"),
    ("topics.retention", -5, 'a duration above 0 such as 250ms, 90s or 7d, or "forever"'),
    ("topics.prefix", "a b", "text that matches ^[A-Za-z0-9._-]*$, at most 60 long"),
    *(
        (
            "kafka.bootstrap_servers",
            value,
            "HOST:PORT, several with commas between, no protocol before it, ports 1 to 65535",
        )
        for value in (
            "localhost",
            "PLAINTEXT://h:9092",
            "h:1,SASL_SSL://h:2",
            "h:99999",
            "h:0",
            "h:1,",
            "::1:9092",
            "h/x:1",
        )
    ),
    ("broker.kind", "nats", "one of auto, kafka, lite"),
    ("jobs.launcher", "ssh", "one of local"),
    ("jobs.dpo.lora_rank", 0, "a whole number at least 1"),
    ("web.port", 70000, "a whole number at least 0, at most 65535"),
    ("data_dir", "", "text at least 1 long"),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD_VALUES)
def test_refusal_names_key_value_source_and_what_is_allowed(key: str, value: Any, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, {}, {key: value})
    line = str(refused.value)
    assert line.startswith(f"{key} = {value!r} (flag ")
    for part in words.split(", "):
        assert part in line
    assert "\n" not in line


def test_what_is_allowed_can_be_said_of_every_setting() -> None:
    for key, field in setting_fields():
        assert allowed(field), key


@pytest.mark.parametrize(
    ("environ", "suggestion"),
    [
        ({"TIERSTREAM_SCORER__RNK": "8"}, "did you mean scorer.rank?"),
        ({"TIERSTREAM_RANK": "8"}, "did you mean scorer.rank?"),
        ({"TIERSTREAM_KAFKA__BOOTSTRAP_SERVER": "h:1"}, "did you mean kafka.bootstrap_servers?"),
        ({"TIERSTREAM_XYZZY": "1"}, "config/default.toml lists every key"),
    ],
)
def test_unknown_variable_is_refused_with_the_closest_key(environ: dict[str, str], suggestion: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, environ, {})
    assert next(iter(environ)) in str(refused.value)
    assert suggestion in str(refused.value)


def test_unknown_key_of_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[pairs]\ntreshold = 3\n")
    with pytest.raises(SettingsError, match=r"unknown setting pairs\.treshold .*mine\.toml.*pairs\.threshold"):
        load(file, {}, {})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"scorer.min_learning_rate": 0.5}, "scorer: min_learning_rate 0.5 is above learning_rate 0.001"),
        ({"pairs.rejected_reward_below": 0.5}, "pairs: rejected_reward_below 0.5 is above chosen_reward_above 0.1"),
        (
            {"jobs.sft.lora_rank": 4},
            "jobs: dpo.lora_rank = 8 and sft.lora_rank = 4 have to be the same: jobs of both tiers",
        ),
        ({"kafka.security_protocol": "SASL_SSL"}, "kafka: security_protocol SASL_SSL needs sasl_username"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, {}, overrides)
    assert words in str(refused.value)


@pytest.mark.parametrize("content", ["rank = ", "\x00", 'rank = "'])
def test_file_that_is_no_toml_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match="is not TOML"):
        load(file, {}, {})


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read: No such file"):
        load(tmp_path / "absent.toml", {}, {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path / "latin.toml", {}, {})


def test_secrets_are_in_no_message_and_read_as_asterisks() -> None:
    loaded = load(None, {"TIERSTREAM_KAFKA__SASL_PASSWORD": "hunter2"}, {})
    assert setting_value(loaded.settings, "kafka.sasl_password") == "**********"
    with pytest.raises(SettingsError) as refused:
        load(None, {"TIERSTREAM_KAFKA__SASL_PASSWORD": "hunter2"}, {"kafka.security_protocol": "SASL_SSL"})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(SettingsError) as refused:
        load(None, {}, {"web.token": 4711})
    assert "web.token = (hidden)" in str(refused.value)


def test_cache_folder_is_the_setting_or_the_users() -> None:
    assert cache_folder(Settings(cache_dir="/c")) == Path("/c")
    assert cache_folder(Settings(), {"XDG_CACHE_HOME": "/x"}) == Path("/x/tierstream")
    assert cache_folder(Settings(), {}) == Path.home() / ".cache" / "tierstream"
