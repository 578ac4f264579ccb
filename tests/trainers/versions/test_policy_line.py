"""No sequence of jobs, promotions, rollbacks, settings and pruning leaves the policies without a way on or back.

Jobs as far as the registry sees them, without a model: `tests/trainers/jobs/test_line.py` runs real ones.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.errors import VersionError
from schemas.events import JobTier
from schemas.settings import RetentionSettings, Settings
from schemas.versions import InUse, Selection, VersionRecord
from trainers import promotion
from trainers.retention import remove, superfluous
from trainers.versions import VersionStore

TIERS = st.sampled_from(["dpo", "sft"])
RANKS = st.sampled_from([4, 8])
BASE = "policy-base"


class AnySequence(RuleBasedStateMachine):
    """What jobs, operators and the trainer that prunes do, in any order."""

    @initialize(old=st.lists(TIERS, unique=True))
    def begin(self, old: list[JobTier]) -> None:
        """Either anew, or where release 0.1 left a line for each tier."""
        self.folder = Path(tempfile.mkdtemp())
        self.store = VersionStore(self.folder)
        self.numbers = count()
        self.file = 4
        self.started: tuple[JobTier, str | None, int] | None = None
        for tier in old:
            version = self.add(tier, None, 4)
            change = Selection(version=version, action="promoted", reason="better", at=datetime.now(UTC))
            (self.folder / "models" / tier / "in-use.json").write_bytes(InUse(history=(change,)).to_json())

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.all_the_way_back()
            shutil.rmtree(self.folder)

    def settings(self, rank: int) -> Settings:
        both, retention = {"lora_rank": rank}, RetentionSettings(versions=0)
        return Settings.model_validate(
            {"data_dir": str(self.folder), "jobs": {"dpo": both, "sft": both}, "retention": retention.model_dump()}
        )

    def add(self, tier: JobTier, parent: str | None, rank: int, status: str = "candidate") -> str:
        number = next(self.numbers)
        made = {"tier": tier, "version": f"{tier}-{number}", "parent_version": parent, "status": status, "reason": "r"}
        training = {"training": {"lora_rank": rank}}
        record = VersionRecord.model_validate({**made, "settings": training, "created_at": number})
        with self.store.staging(record.version) as folder:
            (folder / "weights").write_text(record.version)
            return self.store.add(record, folder).version

    def in_use(self) -> str | None:
        return self.store.in_use("policy").version

    @rule(tier=TIERS)
    def job_starts(self, tier: JobTier) -> None:
        """As `prepare` does: from what is in use now, whichever tier made it, or not at all."""
        if self.store.missing_start() is None and not promotion.settings_needed(
            self.settings(self.file), self.in_use() or BASE
        ):
            self.started = tier, self.in_use(), self.file

    @rule(better=st.booleans(), killed=st.booleans())
    def job_ends(self, better: bool, killed: bool) -> None:
        if self.started is None:
            return
        tier, parent, rank = self.started
        version = self.add(tier, parent, rank, "candidate" if better else "rejected")
        if better and not killed:
            self.store.promote(version, "better")
            assert self.in_use() == version
        self.started = None

    @rule(rank=RANKS)
    def edit_the_settings(self, rank: int) -> None:
        self.file = rank

    @rule(data=st.data(), consent=st.booleans())
    def promote(self, data: st.DataObject, consent: bool) -> None:
        names = [BASE, *(record.version for record in self.store.versions("policy"))]
        self.change(data.draw(st.sampled_from(names)), consent, promotion.promote)

    @rule(consent=st.booleans())
    def rollback(self, consent: bool) -> None:
        if target := self.store.one_before("policy"):
            self.change(
                target, consent, lambda s, v, why, agreed: promotion.rollback(s, "policy", agreed=agreed, reason=why)
            )

    def change(self, version: str, consent: bool, command: Callable[..., object]) -> None:
        settings, before = self.settings(self.file), self.store.in_use("policy")
        needed = promotion.settings_needed(settings, version)
        if needed and not consent:
            with pytest.raises(VersionError, match=r"needs jobs.dpo.lora_rank = .* and jobs.sft.lora_rank = "):
                command(settings, version, "by hand", {})
            assert self.store.in_use("policy") == before
            return
        command(settings, version, "by hand", needed)
        self.file = needed.get("jobs.dpo.lora_rank", self.file)
        assert self.in_use() == (None if version == BASE else version)
        assert not promotion.settings_needed(self.settings(self.file), version), "the next job can continue from it"

    @rule()
    def prune(self) -> None:
        list(remove(superfluous(self.settings(self.file), time.time() + 1e6)))

    @invariant()
    def what_is_in_use_and_all_that_it_continues_is_there(self) -> None:
        version = self.in_use() if hasattr(self, "folder") else None
        while version is not None:
            version = self.store.get(self.store.verified(version).name).parent_version

    @invariant()
    def there_is_a_way_back(self) -> None:
        if hasattr(self, "folder") and self.in_use() is not None:
            assert self.store.one_before("policy") is not None

    def all_the_way_back(self) -> None:
        """Each rollback finds what it goes back to, down to the base model."""
        while self.store.one_before("policy"):
            self.store.rollback("policy")
        assert self.in_use() is None


AnySequence.TestCase.settings = profile(max_examples=50, stateful_step_count=20, deadline=None)
TestAnySequence = AnySequence.TestCase
