import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.jobs.accumulate import BatchAccumulator


def feed(ids, threshold, side_of=lambda name: None):
    book, table, runs = BatchAccumulator(threshold), {}, []
    for offset, name in enumerate(ids):
        added = book.add(name, f"content of {name}".encode(), offset, side_of(name))
        table.update(added.writes)
        if added.completed is not None:
            runs.append(added.completed)
    return book, table, runs


def rebuilt(table, threshold, reverse=False):
    book = BatchAccumulator(threshold)
    for key, value in sorted(table.items(), reverse=reverse):
        book.load(key, value)
    return book


def test_a_run_completes_exactly_at_the_threshold():
    book, _, runs = feed([f"p{n}" for n in range(79)], 80)
    assert (runs, book.waiting) == ([], 79)
    completed = book.add("p79", b"last", 79).completed
    assert completed.ids == tuple(f"p{n}" for n in range(80))
    assert completed.contents == (*(f"content of p{n}".encode() for n in range(79)), b"last")
    assert (book.waiting, book.jobs, book.seen) == (0, 1, 80)


def test_runs_follow_one_another_without_overlap():
    _, _, runs = feed(list("abcdefg"), 3)
    assert [run.ids for run in runs] == [("a", "b", "c"), ("d", "e", "f")]


def test_a_repeated_id_counts_once():
    book, _, runs = feed(list("aabbab"), 3)
    assert (runs, book.waiting) == ([], 2)
    again = book.add("a", b"something else", 9)
    assert (again.writes, again.completed, again.repeated) == ((), None, True)
    assert book.add("c", b"c", 10).completed.contents[0] == b"content of a"


def test_a_threshold_of_one_makes_a_job_of_every_example():
    assert [run.ids for run in feed(["a", "b", "a"], 1)[2]] == [("a",), ("b",)]


def test_a_changed_threshold_moves_only_the_end_of_the_open_run():
    _, table, _ = feed(list("abcde"), 3)
    higher = rebuilt(table, 4)
    assert higher.add("f", b"f", 5).completed is None
    assert higher.add("g", b"g", 6).completed.ids == ("d", "e", "f", "g")
    lower = rebuilt(table, 1)
    assert lower.add("f", b"f", 5).completed.ids == ("d", "e", "f")
    assert lower.add("a", b"a", 6).repeated


def test_contents_are_kept_only_while_their_run_is_open():
    _, table, _ = feed(list("abcd"), 3)
    assert {key for key, value in table.items() if b"content" in value} == {b"d"}


def test_content_of_any_text_comes_back_as_it_was():
    book = BatchAccumulator(2)
    line = '{"text":"\\u0000 \\"quoted\\" é \U0001f527"}'.encode()
    table = dict(book.add("a", line, 0).writes)
    assert rebuilt(table, 2).add("b", b"{}", 1).completed.contents == (line, b"{}")


def test_a_run_of_two_sides_has_a_quarter_of_each_and_what_is_too_much_goes_into_the_next():
    ids = [f"good {n}" for n in range(7)] + ["bad 0", "bad 1", "bad 2", "bad 3", "good 7"]
    book, table, runs = feed(ids, 8, lambda name: name.startswith("good"))
    assert [run.ids for run in runs] == [(*(f"good {n}" for n in range(6)), "bad 0", "bad 1")]
    assert (book.waiting, book.held, book.jobs, book.seen) == (4, 0, 1, 12)
    assert rebuilt(table, 8).pending().ids == ("good 6", "bad 2", "bad 3", "good 7")


def test_a_run_of_one_side_alone_never_closes():
    book, _, runs = feed([f"good {n}" for n in range(50)], 8, lambda name: True)
    assert (runs, book.waiting, book.held, book.seen) == ([], 6, 44, 50)


def test_a_lower_threshold_still_asks_for_a_quarter_of_each_side():
    _, table, _ = feed([f"good {n}" for n in range(9)], 80, lambda name: True)
    book = rebuilt(table, 4)
    done = [book.add(f"bad {n}", b"{}", 20 + n, good=False).completed for n in range(3)]
    assert [run and len(run.ids) for run in done] == [None, None, 12]


def good_of(name):
    return name < "h"


@pytest.mark.long
@pytest.mark.parametrize("side_of", [lambda name: None, good_of])
@given(ids=st.lists(st.sampled_from("abcdefghijkl"), max_size=30), threshold=st.integers(2, 5), data=st.data())
def test_a_crash_anywhere_gives_the_same_runs_and_the_same_state(side_of, ids, threshold, data):
    whole_book, whole_table, whole_runs = feed(ids, threshold, side_of)
    table, published, committed = {}, {}, 0
    while committed < len(ids):
        start = data.draw(st.integers(max(0, committed - 3), committed), label="redelivered from")
        end = data.draw(st.integers(committed + 1, len(ids)), label="chunk ends before")
        book = rebuilt(table, threshold, reverse=data.draw(st.booleans()))
        writes = []
        for offset in range(start, end):
            added = book.add(ids[offset], f"content of {ids[offset]}".encode(), offset, side_of(ids[offset]))
            writes.extend(added.writes)
            if added.completed is not None:
                published[added.completed.ids] = added.completed
        kept = data.draw(st.integers(0, len(writes)), label="writes that survive")
        table.update(writes[:kept])
        if kept == len(writes):
            committed = end
    assert published == {run.ids: run for run in whole_runs}
    if side_of is good_of:
        good = [sum(map(good_of, run.ids)) for run in whole_runs]
        assert all(len(run.ids) == threshold for run in whole_runs)
        assert all(4 * min(count, threshold - count) >= threshold for count in good)
    assert table == whole_table
    after = rebuilt(table, threshold)
    assert (after.seen, after.jobs, after.waiting) == (whole_book.seen, whole_book.jobs, whole_book.waiting)
