import json
import os
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Trace
from trainers.traces.store import TraceStore


def trace(name, **changes):
    fields = {"kind": "user_query", "prompt": "why?", "thinking": "hm", "response": "because", "model": "m"}
    timestamp = datetime(2026, 1, 1, tzinfo=UTC)
    return Trace.model_validate({"trace_id": name, "timestamp": timestamp, **fields, **changes})


def names(store):
    return [stored.trace.trace_id for stored in store.read()]


def test_every_trace_that_is_written_is_read_back_as_it_was(tmp_path):
    store = TraceStore(tmp_path)
    written = [trace("a", prompt='line\nbreak "quoted" é \u2028'), trace("b", input_tokens=140, latency_seconds=14.9)]
    with store.open_writer(3) as writer:
        assert writer.append([(5, written[0]), (6, written[1])]) == written
    found = list(store.read())
    assert [stored.trace for stored in found] == written
    assert [(stored.file, stored.partition, stored.offset) for stored in found] == [
        ("traces-3-1.jsonl", 3, 5),
        ("traces-3-1.jsonl", 3, 6),
    ]


def test_a_line_is_one_json_object_with_its_origin(tmp_path):
    with TraceStore(tmp_path).open_writer(0) as writer:
        writer.append([(7, trace("a"))])
    (line,) = (tmp_path / "traces-0-1.jsonl").read_text().splitlines()
    fields = json.loads(line)
    assert (fields["partition"], fields["offset"], fields["trace_id"]) == (0, 7, "a")


def test_a_repeated_id_or_offset_changes_nothing(tmp_path):
    store = TraceStore(tmp_path)
    with store.open_writer(0) as writer:
        assert len(writer.append([(1, trace("a")), (2, trace("a")), (3, trace("b"))])) == 2
        assert writer.append([(3, trace("c")), (4, trace("b"))]) == []
        assert [one.trace_id for one in writer.append([(5, trace("d"))])] == ["d"]
    assert names(store) == ["a", "b", "d"]


def test_what_is_unseen_is_known_before_it_is_stored(tmp_path):
    with TraceStore(tmp_path).open_writer(0) as writer:
        writer.append([(1, trace("a"))])
        records = [(1, trace("a")), (2, trace("b")), (3, trace("b")), (4, trace("c"))]
        unseen = writer.unseen(records)
        assert [(offset, one.trace_id) for offset, one in unseen] == [(2, "b"), (4, "c")]
        assert writer.append(records) == [one for _, one in unseen]


def test_a_new_writer_claims_the_next_epoch_and_knows_what_is_stored(tmp_path):
    store = TraceStore(tmp_path)
    with store.open_writer(0) as first:
        first.append([(1, trace("a")), (4, trace("b"))])
    with store.open_writer(0) as second, store.open_writer(1) as other:
        assert (second.epoch, second.last_offset, second.path.name) == (2, 4, "traces-0-2.jsonl")
        assert (other.epoch, other.last_offset) == (1, -1)
        assert second.append([(4, trace("b")), (5, trace("c"))]) == [trace("c")]
    assert names(store) == ["a", "b", "c"]


def test_a_torn_last_line_is_no_trace_and_is_cut_on_takeover(tmp_path):
    store = TraceStore(tmp_path)
    with store.open_writer(0) as writer:
        writer.append([(1, trace("a")), (2, trace("b", prompt="x" * 200_000))])
    path = tmp_path / "traces-0-1.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert (names(store), store.skipped) == (["a"], {})
    with store.open_writer(0) as writer:
        assert path.read_bytes() == whole.splitlines(keepends=True)[0]
        assert writer.append([(2, trace("b"))]) == [trace("b")]
    assert names(store) == ["a", "b"]


def test_a_file_of_nothing_but_a_torn_line_is_emptied(tmp_path):
    (tmp_path / "traces-0-1.jsonl").write_bytes(b'{"partition":0')
    TraceStore(tmp_path).open_writer(0).close()
    assert (tmp_path / "traces-0-1.jsonl").read_bytes() == b""


def test_what_a_paused_former_writer_appends_is_read_once(tmp_path):
    store = TraceStore(tmp_path)
    with store.open_writer(0) as former, store.open_writer(0) as owner:
        owner.append([(1, trace("a")), (2, trace("b"))])
        assert former.append([(1, trace("a")), (2, trace("b"))]) != []
    assert sorted(names(store)) == ["a", "b"]


def test_lines_that_cannot_be_decoded_are_skipped_and_counted_by_file(tmp_path):
    store = TraceStore(tmp_path)
    with store.open_writer(0) as writer:
        writer.append([(1, trace("a"))])
    with (tmp_path / "traces-0-1.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n[]\n{}\n" + b"[" * 100_000 + b"\n" + trace("no origin").to_json() + b"\n")
        file.write(b'{"partition":0,"offset":[],' + trace("nowhere").to_json()[1:] + b"\n")
    assert names(store) == ["a"]
    assert store.skipped == {"traces-0-1.jsonl": 6}
    with store.open_writer(0) as writer:
        assert writer.last_offset == 1


def test_nothing_is_found_where_nothing_was_written(tmp_path):
    assert names(TraceStore(tmp_path / "absent")) == []
    assert list(TraceStore(tmp_path / "absent").old_files()) == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), max_size=12),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.floats(0, 1)), max_size=4),
)
def test_a_crash_anywhere_loses_and_repeats_nothing(tmp_path_factory, ids, crashes):
    """Each writer takes over a little early, and all but the last lose the end of what they wrote."""
    store, committed = TraceStore(tmp_path_factory.mktemp("traces")), 0
    for early, count, kept in [*crashes, (0, len(ids), 1.0)]:
        start = max(0, committed - early)
        end = min(len(ids), committed + count)
        with store.open_writer(0) as writer:
            writer.append([(offset, trace(ids[offset])) for offset in range(start, end)])
            written = writer.path.stat().st_size
            os.truncate(writer.path, int(written * kept))
        if int(written * kept) == written:
            committed = max(committed, end)
    assert names(store) == list(dict.fromkeys(ids))
    assert store.skipped == {}


def test_traces_are_synced_once_they_are_written_and_before_append_returns(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr("trainers.traces.store.os.fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    with TraceStore(tmp_path).open_writer(0) as writer:
        sizes.clear()
        writer.append([(0, trace("a")), (1, trace("b"))])
        assert sizes == [writer.path.stat().st_size]
        writer.append([(2, trace("c"))])
        assert sizes[1:] == [writer.path.stat().st_size]
