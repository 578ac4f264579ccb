"""The join and the deduplication alone, on Kafka Streams with `exactly_once_v2`: compiles and runs `JoinPeer.java`.

Our structured features are not made of experiences there, and events are not validated, to its advantage.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.deployment import Deployment
from schemas.config import cache_folder
from schemas.errors import BrokerError
from schemas.settings import Settings
from streams.broker.jars import kafka_jars, pinned
from streams.broker.java import find_java, java_version

SOURCE = Path(__file__).parent / "java" / "JoinPeer.java"
RELEASE = 17
OUTPUT = "joined"
PINS = {
    "org.apache.kafka:kafka-streams:4.3.1": "bd73f3805e116f711e8456ee89a8a5b43ff5dcf5a5bb865afae29deae89e7c4b",
    "org.rocksdb:rocksdbjni:10.1.3": "e7f925287d9fe2574fb7c7a86f7facaa9b8ab602a2eed0e598bf633528121498",
}
"""What Kafka Streams needs beside the jars of the embedded broker."""


def find_javac() -> Path:
    """Return the compiler of `JAVA_HOME`, or of `PATH`.

    Raises:
        BrokerError: there is none of version 17 or newer.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("javac", path=f"{home}/bin" if home else None) or shutil.which("javac")
    java = None if found is None else Path(found).resolve().with_name("java")
    if found is None or java is None or (java_version(java) or 0) < RELEASE:
        raise BrokerError(f"no javac of Java {RELEASE} or newer", "install a JDK")
    return Path(found)


def jars(settings: Settings) -> list[Path]:
    """Return the class path.

    Raises:
        JarsUnavailableError: a jar cannot be fetched.
    """
    return kafka_jars(cache_folder(settings), print, {**pinned(), **PINS})


def compiled(folder: Path, class_path: str) -> Path:
    """Return the folder of the compiled class, which is compiled once.

    Raises:
        BrokerError: it does not compile.
    """
    if not (folder / f"{SOURCE.stem}.class").exists():
        command = [str(find_javac()), "--release", str(RELEASE), "-cp", class_path, "-d", str(folder), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerError(f"{SOURCE.name} does not compile: {(done.stderr.splitlines() or ['no reason given'])[0]}")
    return folder


def main(of: Deployment) -> None:
    """Become the program."""
    asyncio.run(of.create_topics(OUTPUT))
    class_path = os.pathsep.join(map(str, jars(of.settings)))
    classes = compiled(of.folder / "classes", class_path)
    (milliseconds,) = of.options
    java, state = str(find_java().path), str(of.folder / "state")
    command = [java, "-Xmx1g", "-cp", f"{classes}{os.pathsep}{class_path}", SOURCE.stem]
    os.execv(java, [*command, of.bootstrap, of.prefix, state, str(of.session_ms), milliseconds])


if __name__ == "__main__":
    main(Deployment.from_arguments())
