import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from schemas.settings import ScorerSettings
from trainers.embedding import CachedEmbedder, HashEmbedder, MissingEmbeddingError, SuppliedOnly, build_embedder


def test_hashed_text_has_length_1_and_384_dimensions():
    rows = HashEmbedder().embed(["Turn on the kitchen light", "chiller 6"])
    assert rows.shape == (2, 384)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1.0, 1.0])


def test_empty_text_is_the_zero_vector():
    assert not HashEmbedder().embed(["", " ?! "]).any()


def test_word_order_counts_and_case_does_not():
    one, same, other = HashEmbedder().embed(["Open the valve", "open THE valve", "the valve open"])
    assert (one == same).all()
    assert 0.3 < float(one @ other) < 0.95


def test_similar_texts_are_nearer_than_others():
    query, near, far = HashEmbedder().embed(["close the garage door", "The garage door is closed.", "Milk was added."])
    assert query @ near > 0.3 > query @ far


def test_embedding_is_the_same_in_every_process():
    code = "from trainers.embedding import HashEmbedder; print(HashEmbedder().embed(['pump 3 off']).tobytes().hex())"
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()}
    assert found == {HashEmbedder().embed(["pump 3 off"]).tobytes().hex()}


def test_supplied_only_refuses_a_text_and_names_the_remedy():
    assert SuppliedOnly().embed([]).shape == (0, 384)
    with pytest.raises(MissingEmbeddingError, match=r'query_embedding.*scorer\.embedder = "hash"'):
        SuppliedOnly().embed(["a"])


class Counting:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts):
        self.texts += texts
        return HashEmbedder().embed(texts)


def test_cache_embeds_a_text_once_and_forgets_the_one_used_longest_ago():
    inner = Counting()
    cache = CachedEmbedder(inner, capacity=2)
    expected = HashEmbedder().embed(["a", "b", "a"])
    assert (cache.embed(["a", "b", "a"]) == expected).all()
    assert inner.texts == ["a", "b"]
    cache.embed(["a"])
    cache.embed(["c"])
    cache.embed(["a"])
    assert inner.texts == ["a", "b", "c"]
    cache.embed(["b"])
    assert inner.texts == ["a", "b", "c", "b"]
    assert (cache.stats.hits, cache.stats.misses) == (3, 4)
    assert cache.stats.hit_rate == pytest.approx(3 / 7)
    assert cache.stats.seconds_per_text is not None


def test_cache_serves_several_threads_with_the_right_vectors():
    cache = CachedEmbedder(HashEmbedder(), capacity=3)
    texts = [f"pump {n}" for n in range(12)]
    expected = HashEmbedder().embed(texts)

    def ask(seed: int) -> bool:
        order = np.random.default_rng(seed).integers(len(texts), size=200)
        return all((cache.embed([texts[n]])[0] == expected[n]).all() for n in order)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))
    assert cache.stats.hits + cache.stats.misses == 1600


def test_settings_choose_the_embedder():
    with pytest.raises(MissingEmbeddingError):
        build_embedder(ScorerSettings(embedder="supplied")).embed(["x"])
    assert build_embedder(ScorerSettings(embedder="hash")).embed(["x"]).any()
