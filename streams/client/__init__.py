"""The library of producers and consumers: publish events, read score updates and model versions, capture traces.

Example::

    from streams.client import Client, Experience, Feedback, load_settings

    with Client(load_settings()) as client:
        client.publish(Experience(...))
        client.publish(Feedback(...))
        for update in client.score_updates():
            print(update.experience_id, [item.score for item in update.items])

`Client` is for threads, `AsyncClient` for an event loop.
`producer` publishes, `reading` follows topics, `capture` makes traces of model calls.
"""

from schemas.events import Experience, Feedback, ModelVersion, ScoreUpdate, Trace
from streams.client.aio import AsyncClient, load_settings
from streams.client.capture import CAPTURE_VARIABLE, Redact, should_capture, to_trace
from streams.client.capture import stats as capture_stats
from streams.client.producer import Producer, Receipt
from streams.client.reading import Freshness, follow
from streams.client.sync import Client

__all__ = [
    "CAPTURE_VARIABLE",
    "AsyncClient",
    "Client",
    "Experience",
    "Feedback",
    "Freshness",
    "ModelVersion",
    "Producer",
    "Receipt",
    "Redact",
    "ScoreUpdate",
    "Trace",
    "capture_stats",
    "follow",
    "load_settings",
    "should_capture",
    "to_trace",
]
