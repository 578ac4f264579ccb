"""Every setting changes something that can be observed: a walk over all of them, each through the component it is for.

The system that this one replaces had rank 32 in its configuration and trained rank 8. A setting that is added
without an entry here fails by name, and so does one whose change shows nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from schemas.config import ENVIRONMENT_PREFIX, load, setting_fields
from schemas.settings import Settings
from streams.training.launcher import LAUNCHERS
from tests.effects import learning, outcome, retention, running, serving

FIELDS = dict(setting_fields())


@dataclass(frozen=True)
class Effect:
    """What to set a setting to, and where that must show."""

    to: str
    """The changed value, as a variable of the environment says it."""
    observe: Callable[[Settings], Any]
    under: Mapping[str, str] = field(default_factory=dict)
    """Further settings, of both sides; may name the setting itself, where its default cannot be used in a test."""
    together_with: str | None = None
    """A setting that can only have the same value."""


ONE_PARTITION = {"topics.partitions": "1"}
SASL = {"kafka.security_protocol": "SASL_PLAINTEXT", "kafka.sasl_username": "me", "kafka.sasl_password": "secret"}
CLIENT_CERTIFICATE = {
    "kafka.security_protocol": "SSL",
    "kafka.ssl_certfile": "client.pem",
    "kafka.ssl_keyfile": "client-key.pem",
}
SMALL = {
    **ONE_PARTITION,
    "scorer.rank": "4",
    "scorer.replay_capacity": "24",
    "scorer.validation_size": "8",
    "scorer.groups_per_step": "2",
    "scorer.validate_every_steps": "2",
}
STILL = {
    **SMALL,
    "scorer.learning_rate": "1e-12",
    "scorer.min_learning_rate": "1e-13",
    "scorer.plateau_patience": "1",
    "scorer.validate_every_steps": "1",
    "scorer.validation_size": "2",
}
"""A scorer that learns next to nothing, so that validation finds a plateau at once."""
ONE_PAIR = {**ONE_PARTITION, "pairs.threshold": "2"}
ONE_TRACE = {**ONE_PARTITION, "traces.threshold": "2"}
FIRST_PORT, SECOND_PORT = map(str, serving.PORTS)
OAUTH = {
    **SASL,
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "OAUTHBEARER",
    "kafka.oauth_token_url": "https://login.example.org/token",
}
TOKEN_COMMAND = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "OAUTHBEARER",
    "kafka.oauth_token_command": "echo one",
}
PEER = f"http://127.0.0.1:{SECOND_PORT}"
WEB = {**ONE_PARTITION, "web.port": FIRST_PORT}

EFFECTS = {
    "data_dir": Effect("elsewhere", learning.files_of_a_job, ONE_PAIR),
    "state_dir": Effect("elsewhere", running.folders_of_tables),
    "cache_dir": Effect("elsewhere", running.launched_kafka),
    "kafka.bootstrap_servers": Effect("kafka:1,other:2", running.client),
    "kafka.app_id": Effect("other", running.groups),
    "kafka.security_protocol": Effect("SSL", running.client),
    "kafka.sasl_mechanism": Effect("SCRAM-SHA-512", running.client, SASL),
    "kafka.sasl_username": Effect("you", running.client, SASL),
    "kafka.sasl_password": Effect("other", running.client, SASL),
    "kafka.ssl_cafile": Effect("ca.pem", running.client, {"kafka.security_protocol": "SSL"}),
    "kafka.sasl_password_file": Effect(
        "other.txt", running.client, {**SASL, "kafka.sasl_password": "", "kafka.sasl_password_file": "secret.txt"}
    ),
    "kafka.oauth_token_url": Effect("https://other.example.org/token", running.token_asked, OAUTH),
    "kafka.oauth_scope": Effect("kafka", running.token_asked, OAUTH),
    "kafka.oauth_token_command": Effect("echo other", running.token_of_a_command, TOKEN_COMMAND),
    "kafka.ssl_certfile": Effect("other.pem", running.own_certificate, CLIENT_CERTIFICATE),
    "kafka.ssl_keyfile": Effect("other-key.pem", running.own_certificate, CLIENT_CERTIFICATE),
    "kafka.fetch_max_wait": Effect("1s", running.transport("fetch_max_wait_ms")),
    "kafka.session_timeout": Effect("6s", running.configured("broker_session_timeout", "broker_heartbeat_interval")),
    "topics.prefix": Effect("one-", running.created_topics),
    "topics.partitions": Effect("3", running.created_topics),
    "topics.replication_factor": Effect("2", running.created_topics),
    "topics.retention": Effect("30d", running.created_topics),
    "join.retention": Effect("9d", learning.eight_days_later, ONE_PARTITION),
    "join.tick_interval": Effect("1s", running.timers),
    "reward.user_weight": Effect("0.6", learning.blended_rewards, ONE_PARTITION),
    "reward.floor": Effect("0.01", learning.blended_rewards, ONE_PARTITION),
    "reward.default_confidence": Effect("0.9", learning.blended_rewards, ONE_PARTITION),
    "reward.implicit_weight": Effect("0.1", learning.blended_rewards, ONE_PARTITION),
    "scorer.rank": Effect("8", learning.learned("parameters"), SMALL),
    "scorer.learning_rate": Effect("0.1", learning.scores, SMALL),
    "scorer.min_learning_rate": Effect("1e-12", learning.learned("learning_rate"), STILL),
    "scorer.plateau_patience": Effect("3", learning.learned("decays"), STILL),
    "scorer.validate_every_steps": Effect("1000", learning.learned("validation_loss"), SMALL),
    "scorer.replay_capacity": Effect("5", learning.learned("replay_samples"), SMALL),
    "scorer.replay_samples": Effect("0", learning.learned("pairs_ranked"), SMALL),
    "scorer.pairs_per_step": Effect("1", learning.learned("pairs_ranked"), SMALL),
    "scorer.groups_per_step": Effect("1", learning.learned("steps"), SMALL),
    "scorer.pointwise_weight": Effect("0", learning.scores, SMALL),
    "scorer.validation_one_in": Effect("1000", learning.learned("groups_held_out"), SMALL),
    "scorer.validation_size": Effect("3", learning.learned("validation_samples"), SMALL),
    "scorer.checkpoint_every_steps": Effect("4", learning.checkpoints, SMALL),
    "scorer.checkpoint_idle": Effect("20s", running.timers),
    "scorer.checkpoints_kept": Effect("2", learning.checkpoints, {**SMALL, "scorer.checkpoint_every_steps": "1"}),
    "scorer.embedding_scale": Effect("1", learning.scores, SMALL),
    "scorer.structured_scale": Effect("1", learning.scores, SMALL),
    "scorer.embedder": Effect("supplied", learning.without_embeddings, ONE_PARTITION),
    "scorer.promotion_margin": Effect("0.9", learning.promoted, SMALL),
    "scorer.seed": Effect("1", learning.first_weights),
    "pairs.chosen_reward_above": Effect("0.2", learning.paired, ONE_PARTITION),
    "pairs.rejected_reward_below": Effect("-0.2", learning.paired, ONE_PARTITION),
    "pairs.min_evaluation_confidence": Effect("0.7", learning.paired, ONE_PARTITION),
    "pairs.user_confidence": Effect("0.7", learning.paired, ONE_PARTITION),
    "pairs.min_reward_gap": Effect("1.2", learning.paired, ONE_PARTITION),
    "pairs.one_to_one": Effect("false", learning.paired, ONE_PARTITION),
    "pairs.patience": Effect("0", learning.paired, ONE_PARTITION),
    "pairs.threshold": Effect("2", learning.dpo_jobs, ONE_PARTITION),
    "pairs.bucket_size": Effect("1", learning.paired, ONE_PARTITION),
    "unpaired.enabled": Effect("true", learning.unpaired, ONE_PARTITION),
    "unpaired.threshold": Effect("4", learning.kto_jobs, ONE_PARTITION),
    "unpaired.kinds": Effect("both", learning.unpaired, {**ONE_PARTITION, "unpaired.enabled": "true"}),
    "traces.threshold": Effect("2", learning.sft_jobs, ONE_PARTITION),
    "traces.require_thinking": Effect("false", learning.eligible_traces, ONE_PARTITION),
    "traces.max_tokens": Effect("10000", learning.eligible_traces, ONE_PARTITION),
    "traces.capture_rate": Effect("0.5", learning.captured),
    "traces.capture_confidence": Effect("0.75", learning.captured),
    "jobs.base_model": Effect("another/model", learning.dpo_jobs, ONE_PAIR),
    "jobs.launcher": Effect("torchrun", running.job_command),
    "jobs.max_attempts": Effect("1", running.crashing_job),
    "jobs.retry_delay": Effect("1s", running.pauses),
    "jobs.ray_address": Effect("http://head:8265", running.job_command, {"jobs.launcher": "ray"}),
    "jobs.ray_gpus": Effect("0.5", running.job_command, {"jobs.launcher": "ray"}),
    "jobs.dpo.learning_rate": Effect("0.1", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.warmup_steps": Effect("3", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.epochs": Effect("2", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.max_steps": Effect("5", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.batch_size": Effect("4", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.gradient_accumulation": Effect("4", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.max_length": Effect("99", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.gradient_checkpointing": Effect("true", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.lora_rank": Effect("4", learning.dpo_jobs, ONE_PAIR, "jobs.sft.lora_rank"),
    "jobs.dpo.lora_alpha": Effect("4", learning.dpo_jobs, ONE_PAIR, "jobs.sft.lora_alpha"),
    "jobs.dpo.lora_targets": Effect("q_proj", learning.dpo_jobs, ONE_PAIR, "jobs.sft.lora_targets"),
    "jobs.dpo.seed": Effect("1", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.checkpoint_interval": Effect("9s", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.threads": Effect("1", learning.dpo_jobs, ONE_PAIR),
    "jobs.dpo.beta": Effect("0.2", learning.dpo_jobs, ONE_PAIR),
    "jobs.sft.learning_rate": Effect("0.1", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.warmup_steps": Effect("3", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.epochs": Effect("2", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.max_steps": Effect("5", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.batch_size": Effect("4", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.gradient_accumulation": Effect("4", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.max_length": Effect("99", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.gradient_checkpointing": Effect("true", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.lora_rank": Effect("4", learning.sft_jobs, ONE_TRACE, "jobs.dpo.lora_rank"),
    "jobs.sft.lora_alpha": Effect("4", learning.sft_jobs, ONE_TRACE, "jobs.dpo.lora_alpha"),
    "jobs.sft.lora_targets": Effect("q_proj", learning.sft_jobs, ONE_TRACE, "jobs.dpo.lora_targets"),
    "jobs.sft.seed": Effect("1", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.checkpoint_interval": Effect("9s", learning.sft_jobs, ONE_TRACE),
    "jobs.sft.threads": Effect("1", learning.sft_jobs, ONE_TRACE),
    "jobs.gate.held_out_one_in": Effect("5", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.held_out_size": Effect("50", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.confidence": Effect("0.9", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.dpo_margin": Effect("0.1", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.sft_margin": Effect("0.1", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.sft_form_alone": Effect("true", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.max_regression": Effect("0.5", learning.dpo_jobs, ONE_PAIR),
    "jobs.gate.max_accuracy_loss": Effect("0.5", learning.dpo_jobs, ONE_PAIR),
    "serving.url": Effect(PEER, serving.promoted),
    "serving.api_key": Effect("open sesame", serving.promoted, {"serving.url": PEER}),
    "serving.timeout": Effect("100ms", serving.promoted, {"serving.url": PEER}),
    "serving.port": Effect(SECOND_PORT, serving.serve_listens, {"serving.port": FIRST_PORT}),
    "retention.job_checkpoints": Effect("90d", retention.superfluous_folders, {"retention.job_checkpoints": "1d"}),
    "retention.jobs": Effect("2d", retention.superfluous_folders),
    "retention.versions": Effect("1", retention.superfluous_folders),
    "serving.candidate_share": Effect("0.2", outcome.tried),
    "serving.candidate_judgements": Effect("100", outcome.tried, {"serving.candidate_share": "0.2"}),
    "serving.rollback_when_worse": Effect("true", outcome.rolled_back),
    "serving.worse_margin": Effect("0.5", outcome.rolled_back, {"serving.rollback_when_worse": "true"}),
    "demo.dpo_steps": Effect("3", running.demo_steps),
    "demo.sft_steps": Effect("2", running.demo_steps),
    "demo.patience": Effect("60", running.demo_patience),
    "demo.held_out_one_in": Effect("3", running.demo_steps),
    "demo.held_out_size": Effect("12", running.demo_steps),
    "web.host": Effect("127.0.0.2", serving.listening, WEB),
    "web.port": Effect(SECOND_PORT, serving.listening, WEB),
    "web.token": Effect("open sesame", serving.status_page, WEB),
    "web.token_file": Effect("secret.txt", serving.status_page, WEB),
    "intake.events_per_second": Effect("2", serving.posted, WEB),
    "intake.max_body_kib": Effect("1", serving.posted, WEB),
    "intake.cors_origins": Effect("https://app.example.org", serving.posted, WEB),
    "broker.kind": Effect("kafka", running.embedded_broker, {"broker.port": FIRST_PORT}),
    "broker.port": Effect(SECOND_PORT, running.embedded_broker, {"broker.port": FIRST_PORT, "broker.kind": "lite"}),
    "broker.heap_mib": Effect("300", running.launched_kafka),
    "stream.batch_records": Effect("7", running.transport("batch_records")),
    "stream.table_cache_mib": Effect("8", running.block_caches),
    "stream.table_standby_replicas": Effect("2", running.standbys),
    "stream.drain_timeout": Effect("3s", running.started_role),
    "stream.stall_timeout": Effect("8s", running.timers),
    "stream.log_level": Effect("error", running.started_role),
}

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUB6AGYtNOwqRudS1+ft+mYycvlNMwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIyMTIwMThaGA8yMTI2MTAyOTIxMjAx
OFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJzG
1+Qu2GMFK3IoFhlPhZpf3omeWR1vybg4SBlbaf7BnBtx1iByXWg04hDm5xVblQIi
tyj6mspHoHclm24gWV2jUzBRMB0GA1UdDgQWBBSk/Z0YjZiWXz11zlhmd8vt1Kue
ozAfBgNVHSMEGDAWgBSk/Z0YjZiWXz11zlhmd8vt1KueozAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQDxQvAL7+/Qehe52pCFRVqJFp/ENl7Nmr3K
dO2Fu+4FgwIgbfCA48aCWXYcnWvPDAyGajcHa1/wGC7PjG8TTXMvg/Y=
-----END CERTIFICATE-----
"""


def variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


@pytest.mark.parametrize("key", FIELDS)
def test_a_changed_setting_shows(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key in EFFECTS, f"no effect of {key} is known: add the one that it has, or remove the setting"
    effect = EFFECTS[key]

    def seen(folder: str, **changed: str) -> Any:
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("ca.pem").write_text(CERTIFICATE)
        Path("secret.txt").write_text("secret\n")
        Path("other.txt").write_text("other\n")
        environ = {variable(name): value for name, value in {**effect.under, **changed}.items()}
        return effect.observe(load(None, environ, {}).settings)

    changed = dict.fromkeys([key, *([effect.together_with] if effect.together_with else [])], effect.to)
    before, again, after = seen("before"), seen("again"), seen("after", **changed)
    assert before == again, f"what {key} is observed by differs from one time to the next"
    assert after != before, f"{key} = {effect.to} changes nothing: {before}"


def test_no_effect_is_told_of_a_setting_that_is_gone() -> None:
    assert set(EFFECTS) == set(FIELDS)


def test_every_launcher_that_can_be_set_is_there() -> None:
    assert get_args(FIELDS["jobs.launcher"].annotation) == tuple(LAUNCHERS)
