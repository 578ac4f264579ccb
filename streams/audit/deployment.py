"""What all workers of a deployment say of themselves, as one account that tells the age of each part."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import aiohttp

from schemas.settings import Settings, WebSettings
from streams.audit.accounts import OF_ROLES, together
from streams.state.web_token import bearer
from streams.state.workers import Announced, announced

WORKER_TIMEOUT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""A worker that nobody can ask and that has said nothing for so long is not ready."""


async def ask_deployment(settings: Settings) -> dict[str, Any]:
    """Return what all running workers say together; with `workers` empty where none runs.

    One that cannot be asked counts with what it said last, in the data directory. Beside what `together` returns:
    `at` (of this account), `workers`, `processes` (each role's, with where it runs, in epoch seconds `at`, and why its
    worker is `silent`), `told_at` (by part), the oldest worker's `settings`, and the newest `observed`.
    """
    there = announced(settings)
    answers = await asyncio.gather(*(ask_status(one.url, settings.web) for one in there))
    now = time.time()
    heard = [_heard(one, answer, now) for one, answer in zip(there, answers, strict=True)]
    return as_one(heard, now)


def _heard(one: Announced, answer: dict[str, Any] | str, now: float) -> tuple[Announced, str | None]:
    """Return the worker with its newest account, and why it is not of now."""
    if isinstance(answer, dict):
        return replace(one, at=now, account=answer), None
    return one, answer


def as_one(heard: list[tuple[Announced, str | None]], now: float) -> dict[str, Any]:
    """Return the accounts of workers as one, what is newest first; each with why it is not of now. Pure."""
    newest = sorted(heard, key=lambda one: -one[0].at)
    accounts = [_account(worker, silent, now) for worker, silent in newest]
    told_at = {
        name: worker.at
        for (worker, _), account in reversed(list(zip(newest, accounts, strict=True)))
        for name in OF_ROLES
        if account.get(name) is not None
    }
    seen = [account["observed"] for account in accounts if account.get("observed")]
    return {
        **together(accounts),
        "at": now,
        "workers": [{"url": w.url, "host": w.host, "pid": w.pid, "at": w.at, "silent": s} for w, s in heard],
        "processes": [process for worker, silent in heard for process in _processes(worker, silent, now)],
        "told_at": told_at,
        "settings": next((account["settings"] for account in accounts if account.get("settings")), {}),
        "observed": max(seen, key=lambda one: one["at"], default=None),
    }


def _account(worker: Announced, silent: str | None, now: float) -> Mapping[str, Any]:
    age = now - worker.at
    if silent is not None and (age > SILENT_SECONDS or not worker.account):
        reason = f"worker {worker.pid} on {worker.host} has said nothing for {age:,.0f} s"
        return {**worker.account, "ready": False, "reason": reason}
    return worker.account


def _processes(worker: Announced, silent: str | None, now: float) -> list[dict[str, Any]]:
    account = _account(worker, silent, now)
    where = {"host": worker.host, "pid": worker.pid, "url": worker.url, "at": worker.at, "silent": silent}
    told = account.get("roles") or {}
    processes = []
    for role in worker.roles:
        of = told.get(role) or {"ready": False, "reason": "starting"}
        ready = bool(of["ready"]) and (silent is None or now - worker.at <= SILENT_SECONDS)
        reason = of.get("reason") or (None if ready else account.get("reason"))
        processes.append({"role": role, **where, "ready": ready, "reason": reason, "active": of.get("active")})
    return processes


async def ask_status(url: str, web: WebSettings) -> dict[str, Any] | str:
    """Return what the worker at `url` says of itself, or in a line why it does not."""
    timeout = aiohttp.ClientTimeout(total=WORKER_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/status", headers=bearer(web)) as answer,
        ):
            if answer.status != HTTPStatus.OK:
                return f"{url}/status answers {answer.status}"
            account: dict[str, Any] = await answer.json()
            return account
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return f"{url}/status does not answer: {str(error) or type(error).__name__}"


def alone(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return the account of one worker that has not announced itself yet, as `ask_deployment` returns it."""
    me = Announced("", socket.gethostname(), os.getpid(), tuple(account.get("roles") or ()), time.time(), account)
    return as_one([(me, None)], me.at)
