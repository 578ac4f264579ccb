"""Ranking candidates for a query with a frozen scorer."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from schemas.events import VOICE_ITEM_ID, Experience, Widget
from schemas.ranking import Candidate, RankedItem, RankRequest
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from trainers.embedding import Embedder, build_embedder
from trainers.prepare import prepare
from trainers.scorer.serving import FrozenScorer

_EPOCH = datetime.fromtimestamp(0, UTC)


def embedder_of(scorer: FrozenScorer, settings: ScorerSettings) -> Embedder:
    """Return the embedder whose vectors the scorer was trained on, whatever the settings say now."""
    return build_embedder(settings.model_copy(update={"embedder": scorer.about.embedder}))


def rank(scorer: FrozenScorer, embedder: Embedder, request: RankRequest) -> list[RankedItem]:
    """Return the candidates with their scores, the best first; each is judged as the whole answer.

    Raises:
        MissingEmbeddingError: the scorer needs embeddings that the request does not bring.
    """
    vectors = [
        np.frombuffer(prepare(_answer(request, candidate), embedder).features, "<f4")
        for candidate in request.candidates
    ]
    items = np.stack([vector[EMBEDDING_SIZE:] for vector in vectors])
    scores = scorer.score_rows(vectors[0][:EMBEDDING_SIZE], items).tolist()
    ranked = [
        RankedItem(item_id=c.item_id, item_type="voice" if c.widget_type is None else "widget", score=score)
        for c, score in zip(request.candidates, scores, strict=True)
    ]
    return sorted(ranked, key=lambda item: -item.score)


def score_answer(scorer: FrozenScorer, embedder: Embedder, experience: Experience) -> list[RankedItem]:
    """Return the score of each item of a whole answer, the best first, as the stream scores it on arrival.

    Raises:
        MissingEmbeddingError: the scorer needs embeddings that the experience does not bring.
    """
    prepared = prepare(experience, embedder)
    scores = scorer.scores(prepared.features).tolist()
    items = zip(prepared.item_ids, prepared.item_types, scores, strict=True)
    return sorted((RankedItem(item_id=i, item_type=t, score=s) for i, t, s in items), key=lambda item: -item.score)


def _answer(request: RankRequest, candidate: Candidate) -> Experience:
    """Return the answer that has nothing but the candidate."""
    widget = None
    if candidate.widget_type is not None:
        widget = Widget(
            widget_id="candidate",
            widget_type=candidate.widget_type,
            text=candidate.text,
            size=candidate.size,
            params=candidate.params,
        )
    embeddings = None
    if candidate.embedding is not None:
        embeddings = {VOICE_ITEM_ID if widget is None else "candidate": candidate.embedding}
    return Experience(
        experience_id="candidate",
        timestamp=_EPOCH,
        query=request.query,
        intent=request.intent,
        widget_plan=() if widget is None else (widget,),
        voice_reply=candidate.text if widget is None else None,
        query_embedding=request.query_embedding,
        item_embeddings=embeddings,
    )
