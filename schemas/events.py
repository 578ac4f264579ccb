"""The public contract: one model for every public topic's value."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.base import Event, FreeJson, GivenJson, Identifier, LongText, Part, Probability, Reward, Text, Timestamp
from schemas.vectors import Embedding

VOICE_ITEM_ID = "voice"
"""The item id of the spoken reply; no widget may have it."""

ItemType = Literal["widget", "voice"]
PairKind = Literal["widget", "voice"]
FeedbackSource = Literal["user", "evaluator", "implicit"]
JobTier = Literal["dpo", "sft"]
ModelTier = Literal["scorer", "dpo", "sft"]
ModelLine = Literal["scorer", "policy"]
"""What a version continues: jobs of both tiers make one line of policies, each from the one before."""
TurnRole = Literal["system", "user", "assistant", "tool"]
ScoreReason = Literal["experience_arrived", "feedback_learned", "feedback_held_out"]
JobAction = Literal["retry", "cancel"]
JobState = Literal["queued", "running", "validated", "finished", "failed", "cancelled"]


_THINK = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)


def flat_prompt(turns: Any) -> str:
    """Return a conversation's turns as one text: a single one as it is, of several each with its role before it."""
    parts = [turn if isinstance(turn, dict) else {"role": turn.role, "content": turn.content} for turn in turns]
    if len(parts) == 1:
        return str(parts[0].get("content", ""))
    return "\n\n".join(f"{part.get('role')}: {part.get('content')}" for part in parts)


def _are_turns(value: Any) -> bool:
    """Whether a value that nothing has validated yet can be read as turns."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, (dict, Turn)) for one in value)


def _device_from_string(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Device(Part):
    """A device that the query is about."""

    type: Identifier
    """Kind of device, `pump` for one."""
    id: Identifier | None = None
    """Which one, where the query names it."""


class Intent(Part):
    """What the operator wants."""

    type: Identifier
    """Kind of intent, `status` for one; only answers of one type are ever paired."""
    domains: tuple[Identifier, ...] = Field(default=(), max_length=64)
    """Subject areas, `hvac` for one."""
    devices: tuple[
        Annotated[Device, BeforeValidator(_device_from_string, json_schema_input_type=str | Device)], ...
    ] = Field(default=(), max_length=256)
    """Devices that the query is about; a bare string is a device's type."""


class Widget(Part):
    """One widget of a dashboard."""

    widget_id: Identifier
    """Identifies the widget within its plan."""
    widget_type: Identifier
    """Kind of widget, `line_chart` for one."""
    text: Text = ""
    """What the widget shows, in words."""
    size: str | None = Field(default=None, max_length=64)
    """Size class, `medium` for one."""
    position: FreeJson = None
    """Place in the dashboard, in the assistant's own form."""
    params: dict[str, FreeJson] | None = None
    """Arguments of the widget."""


class Experience(Event):
    """One answer of the assistant: a query, the widgets and the reply that it was answered with."""

    experience_id: Identifier
    """Identifies the experience; the record's key."""
    timestamp: Timestamp
    """When the answer was given."""
    query: Text
    """What the operator asked."""
    intent: Intent
    """What the assistant understood."""
    widget_plan: tuple[Widget, ...] = Field(default=(), max_length=64)
    """The dashboard; may be empty."""
    voice_reply: Text | None = None
    """The spoken reply."""
    query_embedding: Embedding | None = None
    """Embedding of the query."""
    item_embeddings: dict[Identifier, Embedding] | None = Field(default=None, max_length=65)
    """Embedding of each item, by widget id, and `voice` for the reply."""
    source_model: str | None = Field(default=None, max_length=256)
    """The model that answered."""
    model_version: Identifier | None = None
    """The trained version that answered, as `model-versions` names it; rewards are counted by it."""
    confidence: Probability | None = None
    """The assistant's own confidence."""

    @field_validator("widget_plan")
    @classmethod
    def _widget_ids_are_unique(cls, plan: tuple[Widget, ...]) -> tuple[Widget, ...]:
        ids = [widget.widget_id for widget in plan]
        if len(set(ids)) < len(ids):
            raise ValueError("two widgets have the same widget_id")
        if VOICE_ITEM_ID in ids:
            raise ValueError(f"widget_id {VOICE_ITEM_ID!r} is kept for the spoken reply")
        return plan


class WidgetFeedback(Part):
    """A judgement of one widget."""

    widget_id: Identifier
    """The widget in the experience's plan."""
    reward: Reward
    """From -1 (bad) to 1 (good)."""


class Feedback(Event):
    """A judgement of an experience, by a user, an evaluator, or drawn from behaviour."""

    feedback_id: Identifier
    """Identifies the judgement of its experience; a second one of it with the same id changes nothing."""
    experience_id: Identifier
    """The experience that is judged; the record's key."""
    timestamp: Timestamp
    """When it was judged; per source the latest counts."""
    source: FeedbackSource
    """Who judged."""
    reward: Reward | None = None
    """The answer as a whole, -1 to 1."""
    evaluation_confidence: Probability | None = None
    """How sure the source is of what this feedback says; of several sources the evaluator's counts, then the user's."""
    per_widget_feedback: tuple[WidgetFeedback, ...] = Field(default=(), max_length=64)
    """Single widgets."""
    voice_reward: Reward | None = None
    """The spoken reply."""
    comment: Text | None = None
    """Free text; kept, not learned from."""

    @model_validator(mode="after")
    def _some_reward_is_there(self) -> Self:
        if self.reward is None and self.voice_reward is None and not self.per_widget_feedback:
            raise ValueError("no reward: one of reward, voice_reward, per_widget_feedback is needed")
        return self


class Turn(Part):
    """One turn of a conversation."""

    role: TurnRole
    """Who speaks."""
    content: LongText
    """What is said; tool calls and results as text."""


class Trace(Event):
    """A call of the language model with its reasoning."""

    trace_id: Identifier
    """Identifies the call; the record's key."""
    timestamp: Timestamp
    """When the call was made."""
    kind: Identifier
    """What the call was for, `user_query` or `widget_selection` for two."""
    prompt: LongText
    """What the model was asked; of a conversation all turns as one text."""
    messages: tuple[Turn, ...] | None = Field(default=None, max_length=1024)
    """The conversation's turns before the answer, tool calls and results included; `prompt` can be drawn from them."""
    system: LongText | None = None
    """The system prompt."""
    thinking: LongText | None = None
    """The reasoning, apart from the answer."""
    thinking_omitted: bool | None = None
    """Whether there was reasoning of which the API left the text out."""
    redacted_thinking: int | None = Field(default=None, ge=0)
    """Blocks of the reasoning that came encrypted."""
    response: LongText
    """The answer."""
    model: str = Field(max_length=256)
    """The model that was called."""
    input_tokens: int | None = Field(default=None, ge=0)
    """Tokens of the prompt."""
    output_tokens: int | None = Field(default=None, ge=0)
    """Tokens of thinking and answer."""
    latency_seconds: float | None = Field(default=None, ge=0)
    """Duration of the call."""
    confidence: Probability | None = None
    """The model's own confidence."""
    stop_reason: str | None = Field(default=None, max_length=64)
    """Why the model stopped; only `end_turn`, `stop`, `stop_sequence` and `eos` are ends that are trained on."""
    experience_id: Identifier | None = None
    """The experience that the call led to."""
    chosen_by: dict[str, FreeJson] | None = None
    """Set by the stream: the rules that it was counted by, values of the settings in `[traces]`."""

    @model_validator(mode="before")
    @classmethod
    def _in_parts(cls, fields: Any) -> Any:
        """Draw the prompt from the turns where it is not given, and part an answer that brings its reasoning along."""
        if not isinstance(fields, dict):
            return fields
        turns, response = fields.get("messages"), fields.get("response")
        if "prompt" not in fields and _are_turns(turns):
            fields = {**fields, "prompt": flat_prompt(turns)}
        if isinstance(response, str) and not fields.get("thinking") and (match := _THINK.fullmatch(response)):
            fields = {**fields, "thinking": match[1].strip() or None, "response": match[2].strip()}
        return fields


class ItemScore(Part):
    """The score of one item."""

    item_id: Identifier
    """A widget's id, or `voice`."""
    item_type: ItemType
    """Widget or voice."""
    score: float
    """The scorer's estimate of the reward; higher is better."""
    previous_score: float | None = None
    """The score before this feedback was learned."""


class ScoreUpdate(Event):
    """Fresh scores of an experience's items."""

    experience_id: Identifier
    """The experience; the record's key."""
    reason: ScoreReason
    """What led to the scores."""
    items: tuple[ItemScore, ...]
    """One score an item."""
    scorer_version: str
    """Version of the scorer that is in use."""
    scorer_epoch: int
    """Ownership count of the scorer; readers ignore lower ones than the highest seen."""
    scorer_step: int
    """Optimizer updates in the scorer's life; a repeated update has the same."""
    feedback_id: Identifier | None = None
    """The feedback that was learned or held out."""
    latency_ms: float
    """From the event's arrival on the broker to this update, in milliseconds."""


class PreferencePair(Event):
    """A good and a bad answer that are comparable."""

    pair_id: Identifier
    """A hash of kind and both experiences; the record's key."""
    kind: PairKind
    """Widget plans or spoken replies."""
    prompt: Text
    """The chosen answer's query."""
    rejected_prompt: Text
    """The rejected answer's query."""
    chosen: GivenJson
    """The good answer: a list of widgets, or the reply's text."""
    rejected: GivenJson
    """The bad answer."""
    reward_gap: float
    """Chosen reward minus rejected reward."""
    chosen_experience_id: Identifier
    """Where the good answer is from."""
    rejected_experience_id: Identifier
    """Where the bad answer is from."""
    chosen_reward: Reward
    """Blended reward of the good answer."""
    rejected_reward: Reward
    """Blended reward of the bad answer."""
    evaluation_confidence: Probability
    """Confidence of the chosen answer's judgement."""
    intent_type: Identifier
    """The intent type that both share."""
    shared_domains: tuple[Identifier, ...]
    """The domains that both share."""
    shared_device_types: tuple[Identifier, ...] = ()
    """The device types that both share; empty where one of them has none."""
    chosen_devices: tuple[Identifier, ...] = ()
    """Device types of the chosen answer's query."""
    rejected_devices: tuple[Identifier, ...] = ()
    """Device types of the rejected answer's query."""
    chosen_feedback_ids: tuple[Identifier, ...] = ()
    """The feedback that the good answer's reward and confidence follow from: the latest of each source."""
    rejected_feedback_ids: tuple[Identifier, ...] = ()
    """The feedback that the bad answer's reward and confidence follow from: the latest of each source."""
    chosen_by: dict[str, FreeJson] | None = None
    """The rules that it was made under: values of the settings in `[pairs]`."""


class TrainingJob(Event):
    """A request to train."""

    job_id: Identifier
    """A hash of the examples' ids; the record's key."""
    tier: JobTier
    """Which training."""
    dataset_path: str
    """The snapshot, relative to the data directory."""
    dataset_sha256: str
    """Hash of the snapshot's bytes."""
    example_count: int = Field(ge=1)
    """Lines of the snapshot."""
    base_model: str
    """Path or hub name of the base model."""
    settings: dict[str, FreeJson]
    """The rules and training settings in effect."""
    requested_at: Timestamp
    """When the threshold was reached."""


class JobControl(Event):
    """A request to retry or cancel a training job; stands on the same topic."""

    job_id: Identifier
    """The job; the record's key."""
    action: JobAction
    """Run a job again that failed or was cancelled, or end one that has not."""
    requested_at: Timestamp
    """When it was wished."""
    base_model: str | None = None
    """With `retry`: the base model from now on; without it the one of the request stays."""
    settings: dict[str, FreeJson] | None = None
    """With `retry`: parts of the job's settings from now on; what is not named stays."""


class JobUpdate(Event):
    """The state of a training job."""

    job_id: Identifier
    """The job; the record's key."""
    tier: JobTier
    """Which training."""
    state: JobState
    """Where the job stands."""
    progress: Probability = 0.0
    """Share of the work that is done."""
    metrics: dict[str, FreeJson] = Field(default_factory=dict)
    """Figures so far."""
    error: str | None = None
    """Why it failed, in one line."""
    attempt: int = Field(default=1, ge=1)
    """Count of tries."""
    eta_seconds: float | None = None
    """Time until the end at the pace so far, where one is known."""
    timestamp: Timestamp
    """When it was so."""


class ModelVersion(Event):
    """A model that was promoted or rolled back to."""

    tier: ModelTier | None = None
    """Which training made the version; none for the base model itself."""
    line: Literal[ModelLine, JobTier] = Field(default_factory=lambda data: data.get("tier"), validate_default=True)
    """Which model, `scorer` or `policy`; the record's key. Release 0.1 had a line for each tier and no such field."""
    version: Identifier
    """The version in use from now on; `policy-base` is the base model itself."""
    path: str
    """Its folder, relative to the data directory; empty for the base model itself."""
    metrics: dict[str, FreeJson] = Field(default_factory=dict)
    """The figures that it was promoted on."""
    parent_version: Identifier | None = None
    """The version that it continues from."""
    reason: str
    """Why it is in use."""


class DeadLetter(Event):
    """A record that could not be used, with its origin."""

    topic: str
    """Where it was read."""
    partition: int
    """Partition of that topic."""
    offset: int
    """Offset in that partition."""
    key: str | None = None
    """The record's key, base64."""
    value: str | None = None
    """The record's value, base64, cut at 256 KiB."""
    value_sha256: str
    """Hash of the whole value."""
    value_bytes: int
    """Size of the whole value."""
    error_type: str
    """Reason in one word, `orphan_feedback` for one."""
    error: str
    """What was wrong, in one line."""
    attempt: int = Field(default=1, ge=1)
    """Count of tries."""
    timestamp: Timestamp
    """When it was dead-lettered."""
