"""What the server's model `tierstream` stands for while a version is tried: the query says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.effects.outcome import IN_USE, LINE, made, registry
from trainers.jobs import serve

NEXT = "dpo-c3"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_version_that_is_tried_answers_the_queries_that_the_client_library_would_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = registry(tmp_path)
    made(store, NEXT)
    event = store.try_out(NEXT, "passed", 0.3)
    loaded: list[str] = []
    monkeypatch.setattr(serve.Versions, "load_model_and_processor", lambda _, name: loaded.append(name))
    models = serve.Versions(tmp_path, "base")
    assert models.follow()
    assert (loaded, models.stands_for()) == ([IN_USE, NEXT], f"{IN_USE}, and {NEXT} for 30% of the queries")

    def answers(query: str) -> str:
        turns = [{"role": "user", "content": "hello"}, {"role": "user", "content": query}]
        serve._QUERY.set(serve.query_of(json.dumps({"model": serve.ALIAS, "messages": turns}).encode()))
        return models.process_model_name(serve.ALIAS)

    queries = [f"how is pump {number}" for number in range(50)]
    found = {query: answers(query) for query in queries}
    assert found == {query: event.answering(query) for query in queries}
    assert set(found.values()) == {IN_USE, NEXT}
    assert models.process_model_name(IN_USE) == IN_USE
    store.settle(LINE, NEXT, "judged worse", take=False)
    assert models.follow()
    assert {answers(query) for query in queries} == {IN_USE}


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"messages": [{"role": "user"}]}', b'{"messages": 3}'])
def test_a_body_that_asks_nothing_has_no_query(body: bytes) -> None:
    assert serve.query_of(body) == ""


def test_a_prompt_is_a_query_too() -> None:
    assert serve.query_of(b'{"prompt": "how is pump 1"}') == "how is pump 1"
