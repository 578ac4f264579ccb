"""Faults of the record of a training, of each kind that `docs/guarantees.md` lists; `tests.mutants` puts them in.

Each is a name, a file, the piece that is replaced, what replaces it, and the tests that have to notice.
"""

from __future__ import annotations

JOBS = "tests/trainers/jobs"

RECORD_FAULTS = (
    (
        "trained on: an example that never reached the trainer goes unnoticed",
        "trainers/jobs/received.py",
        "set(self._ids) - self._seen if whole_pass else set()",
        "set()",
        f"{JOBS}/test_fit.py",
    ),
    (
        "trained on: what was to be trained on is recorded as if it had been",
        "trainers/jobs/process.py",
        "examples = work.record(trained.ids)",
        "examples = work.record(frozenset(id_of(one) for one in work.examples.training))",
        f"{JOBS}/test_fit.py",
    ),
    (
        "rules: a pair is judged by the job's rules",
        "trainers/jobs/validate.py",
        "own = _stamped(pair.chosen_by, rules)",
        "own = rules",
        f"{JOBS}/test_validate.py",
    ),
    (
        "base model: a tensor that is missing is drawn at random",
        "trainers/jobs/lora.py",
        '        "lacks": sorted(found["missing_keys"]),\n',
        "",
        f"{JOBS}/test_base_identity.py",
    ),
    (
        "settings: the seed is fixed in the trainer",
        "trainers/jobs/arguments.py",
        '"seed": settings.seed,',
        '"seed": 0,',
        f"{JOBS}/test_effective.py",
    ),
    (
        "settings: a setting without effect is let pass",
        "trainers/jobs/effective.py",
        "        if not same:\n",
        "        if same is None:\n",
        f"{JOBS}/test_effective.py",
    ),
    (
        "templates: one that leaves out the stop token is let pass",
        "trainers/jobs/chat_template.py",
        "elif not _ends_turn(tokenizer, span):",
        "elif False:",
        f"{JOBS}/test_base_identity.py",
    ),
    (
        "stop reasons: an unknown one is a natural end",
        "trainers/traces/suitability.py",
        "stop is not None and stop not in NATURAL_ENDS | _CUT_OFF | _TOOL_USE",
        'stop in {"refusal", "error"}',
        "tests/trainers/traces/test_suitability.py",
    ),
    (
        "stop reasons: reasoning that never ends is an answer",
        "trainers/traces/suitability.py",
        " or _reasons_to_its_end(trace.response)",
        "",
        "tests/trainers/traces/test_suitability.py",
    ),
    (
        "omitted thinking: it is told as none",
        "streams/imports/messages.py",
        '"thinking_omitted": self.omitted or None,',
        '"thinking_omitted": None,',
        "tests/streams/client/test_to_trace.py",
    ),
    (
        "capture: the SDK's own objects in messages raise",
        "streams/imports/messages.py",
        "thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)",
        "thing.get(name)",
        "tests/streams/client/test_to_trace.py",
    ),
    (
        "gate: two held-out prompts are enough",
        "trainers/jobs/gate.py",
        "return max(2, math.ceil(math.log2(2 / (1 - confidence))))",
        "return 2",
        f"{JOBS}/test_gate.py",
    ),
    (
        "gate: an answer's gain after others' prompts is left out",
        "trainers/jobs/judge.py",
        "(gain - other, row)",
        "(gain, row)",
        f"{JOBS}/test_judge.py",
    ),
    (
        "line: a job that is taken up keeps a version that is no longer in use",
        "trainers/jobs/work.py",
        "(began == in_use or done)",
        "True",
        f"{JOBS}/test_training.py",
    ),
    (
        "line: jobs of two tiers run side by side",
        "streams/training/service.py",
        "async with self._turn:",
        "async with asyncio.Lock():",
        "tests/streams/training/test_trainer.py",
    ),
    (
        "line: what DPO has taught may be taken",
        "trainers/jobs/judge.py",
        'Regression("held-out pairs", accuracy_loss,',
        'Regression("held-out pairs", 0.0,',
        f"{JOBS}/test_line.py",
    ),
    (
        "user's input: a context that is too short ends in a crash",
        "trainers/jobs/lora.py",
        "if context is not None and context < max_length:",
        "if context is None:",
        f"{JOBS}/test_base_identity.py",
    ),
    (
        "same answer: case and blanks make another one",
        "trainers/pairs/rules.py",
        "return normalised(content)",
        "return content",
        "tests/trainers/pairs/test_rules.py",
    ),
    (
        "plain PEFT: a version names a base model that only we can find",
        "trainers/jobs/lora.py",
        "base.name if is_hub_name(base.name) else str(base.path.absolute())",
        "base.name",
        f"{JOBS}/test_plain_peft.py",
    ),
)
