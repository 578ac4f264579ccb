"""Apache Kafka's jars: pinned in `config/kafka-jars.toml`, fetched once, checked against their hashes."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock

from schemas.errors import BrokerError, JarsUnavailableError

_FETCH_TIMEOUT_SECONDS = 20
_PARALLEL_FETCHES = 6
_FETCH_ERRORS = (RuntimeError, OSError, AssertionError)
"""What jgo raises where a jar cannot be fetched: it has no errors of its own, and those of `requests` are OSErrors."""


def pinned() -> Mapping[str, str]:
    """Return the SHA-256 of every jar by its coordinate, `group:artifact:version`."""
    content = tomllib.loads(resources.files("config").joinpath("kafka-jars.toml").read_text("utf-8"))
    hashes: dict[str, str] = content["sha256"]
    return hashes


def jar_path(repository: Path, coordinate: str) -> Path:
    """Return where a Maven repository folder has the jar."""
    group, artifact, version = coordinate.split(":")
    return repository.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def kafka_jars(
    cache: Path, say: Callable[[str], None], pins: Mapping[str, str] | None = None, resolver: Any = None
) -> list[Path]:
    """Return the paths of all jars, fetching those that the cache lacks.

    Args:
        cache: folder of downloads; the jars lie in its `maven` folder.
        say: takes lines of progress.
        pins: other jars than the pinned ones.
        resolver: jgo's way to fetch; by default over HTTP, then with an installed `mvn`.

    Raises:
        JarsUnavailableError: a jar is neither there nor can it be fetched.
        BrokerError: the cache cannot be written.
    """
    pins = pinned() if pins is None else pins
    repository = cache / "maven"
    if all(jar_path(repository, c).exists() for c in pins) and not _damaged(repository, pins):
        return [jar_path(repository, c) for c in pins]
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "maven.lock"):
            _fetch_missing(repository, pins, say, resolver)
    except OSError as error:
        raise BrokerError(
            f"cache folder {cache} cannot be written: {error.strerror}", "set cache_dir to a folder that can"
        ) from error
    return [jar_path(repository, c) for c in pins]


def _damaged(repository: Path, pins: Mapping[str, str]) -> list[str]:
    return [c for c, sha in pins.items() if (p := jar_path(repository, c)).exists() and _sha256(p) != sha]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_missing(repository: Path, pins: Mapping[str, str], say: Callable[[str], None], resolver: Any) -> None:
    for coordinate in _damaged(repository, pins):
        jar_path(repository, coordinate).unlink()
    missing = [c for c in pins if not jar_path(repository, c).exists()]
    if not missing:
        return
    from jgo.maven import MvnResolver, PythonResolver  # only whoever fetches needs it, and it takes long to import

    say(f"fetching Apache Kafka, once: {len(missing)} jars into {repository}")
    resolvers = [resolver] if resolver else [PythonResolver()]
    if resolver is None and (mvn := shutil.which("mvn")):
        resolvers.append(MvnResolver(Path(mvn)))
    reason = ""
    for attempt in resolvers:
        reason = _fetch(repository, missing, attempt, say)
        missing = [c for c in missing if not jar_path(repository, c).exists()]
        if not missing:
            break
    if missing:
        raise JarsUnavailableError(
            f"Apache Kafka's jars cannot be fetched: {missing[0]}: {reason}",
            "give a route to Maven Central, or use `--broker lite`, or a broker with --bootstrap-servers",
        )
    if damaged := _damaged(repository, pins):
        for coordinate in damaged:
            jar_path(repository, coordinate).unlink()
        raise JarsUnavailableError(
            f"fetched {damaged[0]} has another SHA-256 than the pinned one", "check what stands between here and Maven"
        )


def _fetch(repository: Path, missing: list[str], resolver: Any, say: Callable[[str], None]) -> str:
    """Fetch jars side by side; return the reason of the first failure, or nothing."""
    from jgo.maven import MavenContext

    context = MavenContext(resolver=resolver, repo_cache=repository, timeout=_FETCH_TIMEOUT_SECONDS)

    def fetch(coordinate: str) -> None:
        group, artifact, version = coordinate.split(":")
        try:
            context.project(group, artifact).at_version(version).artifact().resolve()
        except _FETCH_ERRORS:
            jar_path(repository, coordinate).unlink(missing_ok=True)
            raise

    with ThreadPoolExecutor(_PARALLEL_FETCHES) as pool:
        futures = [pool.submit(fetch, coordinate) for coordinate in missing]
        for count, future in enumerate(as_completed(futures), start=1):
            error = future.exception()
            if error is not None:
                for other in futures:
                    other.cancel()
                return str(error).splitlines()[0] if str(error) else type(error).__name__
            if count % 10 == 0 or count == len(missing):
                say(f"fetched {count} of {len(missing)} jars")
    return ""
