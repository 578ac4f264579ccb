"""`python -m streams.broker.lock VERSION`: prints a new `config/kafka-jars.toml` for a version of Apache Kafka."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext

_HEADER = """\
# Apache Kafka, as the embedded broker runs it: every jar with its exact version and SHA-256.
# Made by resolving org.apache.kafka:kafka_2.13 and org.apache.logging.log4j:log4j-slf4j-impl
# (`python -m streams.broker.lock VERSION`); nothing else is ever put on the class path.
"""


def lock(version: str) -> str:
    """Resolve and fetch everything that this version needs, and return the file's content."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder))
        broker = context.create_dependency(f"org.apache.kafka:kafka_2.13:{version}")
        direct, transitive = context.resolver.resolve([broker])
        artifacts = [d.artifact for d in [*direct, *transitive] if d.scope in (None, "compile", "runtime")]
        core = next(artifact for artifact in artifacts if artifact.artifactId == "log4j-core")
        # The binding of slf4j to log4j is in Kafka's distribution, but its POM does not name it.
        artifacts.append(context.project(core.groupId, "log4j-slf4j-impl").at_version(core.version).artifact())
        hashes = {
            f"{a.groupId}:{a.artifactId}:{a.version}": hashlib.sha256(a.resolve().read_bytes()).hexdigest()
            for a in artifacts
        }
    lines = [f'"{name}" = "{sha}"\n' for name, sha in sorted(hashes.items())]
    return f'{_HEADER}kafka = "{version}"\n\n[sha256]\n{"".join(lines)}'


if __name__ == "__main__":
    print(lock(sys.argv[1]), end="")
