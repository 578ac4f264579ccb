"""Several workers' accounts as one: where each role runs, how old each part is, and who is silent."""

from __future__ import annotations

from typing import Any

from streams.audit.deployment import SILENT_SECONDS, as_one
from streams.state.workers import Announced

NOW = 1_000_000.0
WHY = "http://b:1/status does not answer: timeout"


def worker(pid: int, roles: tuple[str, ...], age: float = 0.0, **account: Any) -> Announced:
    told = {role: {"ready": True, "reason": None, "active": None} for role in roles}
    said = {"ready": True, "reason": None, "events": {}, "roles": told, "settings": {"web.port": pid}, **account}
    return Announced(f"http://h:{pid}", f"host-{pid}", pid, roles, NOW - age, said)


def test_roles_of_two_workers_are_told_with_where_they_run() -> None:
    first = worker(1, ("join", "scorer"), events={"feedback": {"joined": 2}}, scorer={"step": 3})
    second = worker(2, ("join", "pairs"), events={"feedback": {"joined": 5}}, dpo={"waiting": 1})
    found = as_one([(first, None), (second, None)], NOW)
    assert [(p["role"], p["host"], p["pid"], p["ready"], p["at"]) for p in found["processes"]] == [
        ("join", "host-1", 1, True, NOW),
        ("scorer", "host-1", 1, True, NOW),
        ("join", "host-2", 2, True, NOW),
        ("pairs", "host-2", 2, True, NOW),
    ]
    assert (found["ready"], found["reason"]) == (True, None)
    assert (found["scorer"], found["dpo"], found["sft"]) == ({"step": 3}, {"waiting": 1}, None)
    assert found["events"] == {"feedback": {"joined": 7}}
    assert found["told_at"] == {"scorer": NOW, "dpo": NOW}


def test_a_worker_that_cannot_be_asked_counts_with_what_it_said_last_and_its_age() -> None:
    asked, silent = worker(1, ("join",)), worker(2, ("scorer",), age=12.0, scorer={"step": 3})
    found = as_one([(silent, WHY), (asked, None)], NOW)
    assert (found["ready"], found["scorer"], found["told_at"]) == (True, {"step": 3}, {"scorer": NOW - 12})
    [process] = [process for process in found["processes"] if process["role"] == "scorer"]
    assert (process["ready"], process["silent"], process["at"]) == (True, WHY, NOW - 12)


def test_a_worker_that_is_silent_for_long_is_not_ready() -> None:
    silent = worker(2, ("scorer",), age=SILENT_SECONDS + 10, scorer={"step": 3})
    found = as_one([(worker(1, ("join",)), None), (silent, WHY)], NOW)
    assert (found["ready"], found["reason"]) == (False, "worker 2 on host-2 has said nothing for 40 s")
    assert [process["ready"] for process in found["processes"]] == [True, False]


def test_of_two_that_tell_the_same_the_newest_counts() -> None:
    old = worker(1, ("scorer",), age=20.0, scorer={"step": 3}, observed={"at": NOW - 25})
    new = worker(2, ("scorer",), scorer={"step": 9}, observed={"at": NOW - 5})
    found = as_one([(old, WHY), (new, None)], NOW)
    assert (found["scorer"], found["told_at"]["scorer"]) == ({"step": 9}, NOW)
    assert found["observed"] == {"at": NOW - 5}
    assert found["settings"] == {"web.port": 2}


def test_a_worker_that_has_only_begun_and_nobody_at_all() -> None:
    begun = Announced("http://h:1", "h", 1, ("join",), NOW)
    found = as_one([(begun, WHY)], NOW)
    assert (found["ready"], found["processes"][0]["ready"]) == (False, False)
    nobody = as_one([], NOW)
    assert (nobody["ready"], nobody["workers"], nobody["observed"], nobody["settings"]) == (False, [], None, {})
