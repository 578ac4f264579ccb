"""An assistant's web service that publishes what it answered and how it was judged; the file to copy from.

Run it with `uvicorn fastapi_app:app` where `TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS` names the broker.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from schemas.errors import ConnectionFailedError
from streams.client import AsyncClient, Experience, Feedback, load_settings


def redact(text: str) -> str:
    """Take mail addresses out of every text of a captured trace."""
    return re.sub(r"[\w.+-]+@[\w-]+\.[\w.]+", "[mail]", text)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold one client for the life of the service; leaving it waits for what is under way."""
    async with AsyncClient(load_settings(), redact=redact) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def the_client(request: Request) -> AsyncClient:
    """Return the service's client."""
    client: AsyncClient = request.app.state.client
    return client


TheClient = Annotated[AsyncClient, Depends(the_client)]


class Question(BaseModel):
    """What an operator asks."""

    query: str = Field(min_length=1, max_length=2000)


class Judgement(BaseModel):
    """What an operator thinks of an answer."""

    good: bool
    comment: str | None = None


@app.post("/answers")
async def answer(question: Question, client: TheClient) -> Experience:
    """Answer a question and publish the answer; it is returned only once the broker has it."""
    experience = Experience.model_validate(
        {
            "experience_id": uuid.uuid4().hex,
            "timestamp": datetime.now(UTC),
            "query": question.query,
            "intent": {"type": "status", "domains": ["pumps"]},
            # Here the assistant would be called; `await client.capture(response, messages=...)` keeps its reasoning.
            "widget_plan": [{"widget_id": "w1", "widget_type": "gauge", "text": "pressure of pump 4"}],
            "voice_reply": "Pump 4 runs normally.",
        }
    )
    await _publish(client, experience)
    return experience


@app.post("/answers/{experience_id}/judgement", status_code=202)
async def judge(experience_id: str, judgement: Judgement, client: TheClient) -> dict[str, str]:
    """Publish a judgement; with the id in the reply a repeated call could be recognised."""
    feedback = Feedback.model_validate(
        {
            "feedback_id": uuid.uuid4().hex,
            "experience_id": experience_id,
            "timestamp": datetime.now(UTC),
            "source": "user",
            "reward": 1.0 if judgement.good else -1.0,
            "comment": judgement.comment,
        }
    )
    await _publish(client, feedback)
    return {"feedback_id": feedback.feedback_id}


async def _publish(client: AsyncClient, event: Experience | Feedback) -> None:
    try:
        await client.publish(event)
    except ConnectionFailedError as error:
        raise HTTPException(503, "the judgement could not be stored, try again") from error
