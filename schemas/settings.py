"""Every setting, with its default in `config/default.toml` repeated here and checked to agree."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from schemas.base import StrictModel
from schemas.events import JobTier
from schemas.job_settings import JobsSettings
from schemas.serving_settings import ServingSettings
from schemas.setting_types import Duration, Name, Origins, Probability, Retention, Servers, Wait


def is_loopback(host: str) -> bool:
    """Tell whether an address or name is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _one_of_two(name: str, value: object, file: object) -> None:
    if value is not None and file is not None:
        raise ValueError(f"{name} and {name}_file are both set: keep one of them")


class KafkaSettings(StrictModel):
    """How to reach the broker."""

    bootstrap_servers: Servers = "127.0.0.1:9092"
    """HOST:PORT, several separated by commas."""
    app_id: Name = "tierstream"
    """Name of the consumer group and of the changelogs, after `topics.prefix`."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the connection is secured."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    """How a password is proven, where the protocol is SASL; with OAUTHBEARER a token is."""
    sasl_username: str | None = None
    """User, where the protocol is SASL; the client's id at `oauth_token_url`, whose secret is the password."""
    sasl_password: SecretStr | None = None
    """Password; give it as `TIERSTREAM_KAFKA__SASL_PASSWORD`, never in a file that is shared."""
    sasl_password_file: str | None = None
    """File whose one line is the password, in place of `sasl_password`."""
    oauth_token_url: str | None = None
    """Token endpoint of an OIDC provider, which is asked by client credentials, for OAUTHBEARER."""
    oauth_scope: str | None = None
    """Scope to ask of it, several separated by spaces."""
    oauth_token_command: str | None = None
    """Command that prints a token, bare or as a token endpoint answers, in place of `oauth_token_url`."""
    ssl_cafile: str | None = None
    """PEM file of the certificates to trust, where the protocol is SSL; by default the system's."""
    ssl_certfile: str | None = None
    """PEM file of the certificate that this client shows, where the broker asks for one."""
    ssl_keyfile: str | None = None
    """PEM file of that certificate's key."""
    fetch_max_wait: Duration = 0.02
    """How long the broker holds an empty fetch: bounds the delay of one topic behind another."""
    session_timeout: Duration = 10.0
    """After so long without a heartbeat a worker's partitions go to others."""

    @model_validator(mode="after")
    def _sasl_has_a_user(self) -> Self:
        _one_of_two("sasl_password", self.sasl_password, self.sasl_password_file)
        password = self.sasl_password or self.sasl_password_file
        if not self.security_protocol.startswith("SASL"):
            return self
        if self.sasl_mechanism == "OAUTHBEARER":
            if bool(self.oauth_token_url) == bool(self.oauth_token_command):
                raise ValueError("sasl_mechanism OAUTHBEARER needs one of oauth_token_url and oauth_token_command")
            if self.oauth_token_command:
                return self
            url = urlsplit(str(self.oauth_token_url))
            if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
                raise ValueError(
                    f"oauth_token_url {self.oauth_token_url} is not https: the client's secret is sent there"
                )
        if not (self.sasl_username and password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password or "
                "sasl_password_file"
            )
        return self

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            raise ValueError("ssl_certfile and ssl_keyfile go together")
        return self


class TopicsSettings(StrictModel):
    """Names, sizes and retention of the topics."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=60)] = ""
    """Goes before every topic, the consumer group and the changelogs."""
    partitions: int = Field(default=4, ge=1, le=1024)
    """Partitions of the keyed topics."""
    replication_factor: int = Field(default=1, ge=1, le=9)
    """Copies of every topic."""
    retention: Retention = -1.0
    """How long events are kept; they are the training history, so forever by default."""


class JoinSettings(StrictModel):
    """The join of feedback to its experience."""

    retention: Duration = 7 * 86400.0
    """How long an experience waits for feedback, and early feedback for its experience."""
    tick_interval: Duration = 60.0
    """How often a tick record lets broker time pass where no events come."""


class RewardSettings(StrictModel):
    """Sign-preserving blending of user and evaluator rewards."""

    user_weight: Probability = 0.7
    """Weight of the user's reward."""
    floor: float = Field(default=0.05, gt=0, le=1)
    """Size of the blend where its sign disagrees with the user's."""
    default_confidence: Probability = 0.5
    """Confidence of an evaluator that gives none."""
    implicit_weight: Probability = 0.3
    """Weight of implicit feedback where it stands alone."""


class ScorerSettings(StrictModel):
    """Tier 1: the online scorer."""

    rank: int = Field(default=32, ge=1, le=512)
    """Rank of the first layer; 877 parameters each, and 129."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Adam's step size at the start, for a step of one feedback; times the root of their number for several."""
    min_learning_rate: float = Field(default=1.25e-4, gt=0, le=1)
    """The plateau decay stops here."""
    plateau_patience: int = Field(default=20, ge=1)
    """Validation rounds without improvement before the learning rate is halved."""
    validate_every_steps: int = Field(default=50, ge=1)
    """Steps between validation rounds; twenty times as many feedbacks where a step learns many."""
    replay_capacity: int = Field(default=2000, ge=1)
    """Samples in the replay buffer."""
    replay_samples: int = Field(default=64, ge=0)
    """Samples drawn from the replay buffer for each step."""
    pairs_per_step: int = Field(default=256, ge=1)
    """At most so many ranking pairs in one step."""
    groups_per_step: int = Field(default=32, ge=1)
    """At most so many feedbacks in one step."""
    pointwise_weight: float = Field(default=1.0, ge=0)
    """Weight of the calibration term beside the ranking term."""
    validation_one_in: int = Field(default=6, ge=2)
    """One query in so many is held out, chosen by hash."""
    validation_size: int = Field(default=1000, ge=1)
    """Held-out samples that are kept, spread over queries: the newest of each."""
    checkpoint_every_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints."""
    checkpoint_idle: Duration = 3.0
    """A checkpoint is also written after so long without work."""
    checkpoints_kept: int = Field(default=3, ge=2)
    """Older checkpoints are deleted."""
    embedding_scale: float = Field(default=0.3, gt=0)
    """Factor of the embeddings."""
    structured_scale: float = Field(default=3.0, gt=0)
    """Factor of the structured features."""
    embedder: Literal["hash", "minilm", "supplied"] = "hash"
    """Where an event brings no embeddings: hashed word n-grams, the sentence model all-MiniLM-L6-v2, or refuse it."""
    promotion_margin: float = Field(default=0.0, ge=0, le=1)
    """A retrained scorer is promoted where its gain in held-out accuracy is above this with 95 % confidence."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the first weights and of the replay draws."""

    @model_validator(mode="after")
    def _floor_is_below_the_start(self) -> Self:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}")
        return self


class PairsSettings(StrictModel):
    """Tier 2: which answers make a preference pair."""

    chosen_reward_above: float = Field(default=0.1, ge=-1, le=1)
    """A chosen answer's reward is above this."""
    rejected_reward_below: float = Field(default=-0.1, ge=-1, le=1)
    """A rejected answer's reward is below this."""
    min_evaluation_confidence: Probability = 0.5
    """A chosen answer's confidence is at least this."""
    user_confidence: Probability | None = None
    """Confidence of a judgement that only users gave; none by default, so that it cannot be chosen."""
    min_reward_gap: float = Field(default=0.3, ge=0, le=2)
    """Chosen minus rejected reward is at least this."""
    one_to_one: bool = True
    """An answer is used at most once per kind."""
    threshold: int = Field(default=80, ge=1)
    """Pairs that start a DPO job, as the rules choose them; the job says which of them fit its base model."""
    patience: Wait = 3600.0
    """How long an answer waits for one to the same query before another query's may have it; 0 for not at all."""
    bucket_size: int = Field(default=500, ge=1)
    """Newest unused answers a side that are kept per intent type and kind; beyond that the oldest waits no longer."""

    @model_validator(mode="after")
    def _sides_do_not_overlap(self) -> Self:
        if self.rejected_reward_below > self.chosen_reward_above:
            raise ValueError(
                f"rejected_reward_below {self.rejected_reward_below} is above "
                f"chosen_reward_above {self.chosen_reward_above}"
            )
        return self


class UnpairedSettings(StrictModel):
    """Tier 2: labelled answers that no pair has used train by themselves, by KTO."""

    enabled: bool = False
    """Whether they do: one that has waited `pairs.patience` for an answer to the same query, and as long again for any
    other, waits no longer. What it gave when it was measured is in docs/training.md."""
    threshold: int = Field(default=80, ge=4)
    """Answers that start a KTO job, at least a quarter of them good and a quarter bad."""
    kinds: Literal["widget", "voice", "both"] = "widget"
    """Which answers: most judgements are of a plan and its reply together, so that both would learn from one."""


class TracesSettings(StrictModel):
    """Tier 3: reasoning traces."""

    threshold: int = Field(default=100, ge=1)
    """Eligible traces that start an SFT job; the job says which of them fit its base model."""
    require_thinking: bool = True
    """Only traces with thinking advance the threshold."""
    max_tokens: int = Field(default=8192, ge=1)
    """Context of the base model; longer traces are unusable."""
    capture_rate: Probability = 0.15
    """Share of calls below `capture_confidence` that the client library captures."""
    capture_confidence: Probability = 0.9
    """Calls at or above this confidence are always captured."""


class RetentionSettings(StrictModel):
    """What `tierstream prune` and a starting trainer delete; what is in use or referenced always stays."""

    job_checkpoints: Retention = 7 * 86400.0
    """How long the checkpoints of a job that has ended well are kept; they serve to resume it alone."""
    jobs: Retention = -1.0
    """How long a job that has ended well is kept, its dataset included, unless a kept version was trained by it."""
    versions: int = Field(default=20, ge=0)
    """Newest versions of a line that are kept of those that were never in use."""


class DemoSettings(StrictModel):
    """The demo's training, cut short so that it ends in minutes on two cores."""

    dpo_steps: int = Field(default=5, ge=1)
    """Optimizer steps of its DPO jobs."""
    patience: Wait = 0.0
    """`pairs.patience` in the demo, whose people hardly ask the same twice."""
    sft_steps: int = Field(default=3, ge=1)
    """Optimizer steps of its SFT jobs."""
    held_out_one_in: int = Field(default=2, ge=2)
    """One prompt in so many is held out of its jobs: few steps leave examples over, and more of them judge better."""
    held_out_size: int = Field(default=14, ge=2)
    """Held-out examples that its versions are judged on, which takes longer than the steps."""


class WebSettings(StrictModel):
    """The worker's web server."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: int = Field(default=8321, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    token: SecretStr | None = None
    """Bearer token that everything but health checks asks for; needed where `host` is not loopback."""
    token_file: str | None = None
    """File whose one line is the token, in place of `token`; where it does not exist it is made, with a random one."""

    @model_validator(mode="after")
    def _open_to_this_machine_alone(self) -> Self:
        _one_of_two("token", self.token, self.token_file)
        if not is_loopback(self.host) and self.token is None and self.token_file is None:
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is neither token nor token_file: "
                "set one, or keep host at 127.0.0.1"
            )
        return self


class IntakeSettings(StrictModel):
    """Events that are posted to the worker's web server, under `/v1/`."""

    events_per_second: float = Field(default=5000.0, gt=0)
    """Events that are taken in one second, over all that post; a batch beyond it is refused with 429."""
    max_body_kib: int = Field(default=4096, ge=1, le=65536)
    """Largest body, unpacked."""
    cors_origins: Origins = ""
    """Origins whose pages may post from a browser, with commas between; none but the worker's own by default."""


class BrokerSettings(StrictModel):
    """The embedded broker of `up` and `broker`."""

    kind: Literal["auto", "kafka", "lite"] = "auto"
    """Apache Kafka, the lite fallback, or Kafka unless its jars cannot be fetched."""
    port: int = Field(default=9092, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    heap_mib: int = Field(default=512, ge=128)
    """Upper bound of the Java heap."""


class StreamSettings(StrictModel):
    """The worker's own running."""

    batch_records: int = Field(default=500, ge=1)
    """At most so many records of a partition are processed at once."""
    table_cache_mib: int = Field(default=16, ge=1)
    """RocksDB block cache of one partition of one table."""
    table_standby_replicas: int = Field(default=1, ge=1)
    """Copies of table state on other workers; with none Faust would give up co-partitioning."""
    drain_timeout: Duration = 15.0
    """A worker that was asked to stop is ended by force after this."""
    stall_timeout: Duration = 60.0
    """A consumer that has lag and commits nothing for so long is reported as not ready, then ended."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""


class Settings(StrictModel):
    """All settings; see `schemas.config.load` for where they come from."""

    data_dir: str = Field(default="data", min_length=1)
    """Everything that the system writes, shared by workers and trainers."""
    state_dir: str | None = None
    """Local table state of one worker; by default a folder in `data_dir`."""
    cache_dir: str | None = None
    """Downloads; by default the user's cache folder."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    join: JoinSettings = JoinSettings()
    reward: RewardSettings = RewardSettings()
    scorer: ScorerSettings = ScorerSettings()
    pairs: PairsSettings = PairsSettings()
    unpaired: UnpairedSettings = UnpairedSettings()
    traces: TracesSettings = TracesSettings()
    jobs: JobsSettings = JobsSettings()
    serving: ServingSettings = ServingSettings()
    demo: DemoSettings = DemoSettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    intake: IntakeSettings = IntakeSettings()
    broker: BrokerSettings = BrokerSettings()
    stream: StreamSettings = StreamSettings()

    @model_validator(mode="after")
    def _kto_compares_a_batch(self) -> Self:
        if self.unpaired.enabled and self.jobs.dpo.batch_size < 2:
            raise ValueError("unpaired.enabled asks for a jobs.dpo.batch_size of at least 2: KTO compares its answers")
        return self

    @property
    def group_id(self) -> str:
        """The workers' consumer group, and the first part of the changelogs' names."""
        return self.topics.prefix + self.kafka.app_id

    def threshold(self, tier: JobTier) -> int:
        """Return how many examples start a job of a tier."""
        by_tier = {"dpo": self.pairs.threshold, "kto": self.unpaired.threshold, "sft": self.traces.threshold}
        return by_tier[tier]

    def topic(self, name: str) -> str:
        """Return the topic's name on the broker."""
        return self.topics.prefix + name
