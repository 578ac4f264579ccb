"""What the folders of a deployment know of the broker that their offsets are of: cluster, topics, and commits.

Checkpoints, tables and traces hold offsets. Those of another cluster's topics, or of a topic that was deleted and made
again, would skip or repeat events; and a group whose commits the broker has forgotten would read all of it once more.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.errors import StateError, TopicsError
from schemas.settings import Settings
from streams import topics
from streams.kafka.admin import admin_client
from streams.kafka.lag import PartitionLag, committed_offsets
from streams.kafka.topic_ids import topic_ids
from trainers.files import write_atomically

CLUSTER_NAME = "cluster-id"
"""File that names the cluster."""
TOPICS_NAME = "topic-ids.json"
"""File that names the id of each topic whose offsets state holds."""
COMMITTED_NAME = "committed.csv"
"""File of the data directory with what each group had committed, as `kafka-consumer-groups --from-file` reads it."""

_GUIDE = "docs/operations.md"


def offsets_held(settings: Settings) -> set[str]:
    """Return the topics whose offsets state holds: what roles and trainers read, and changelogs."""
    read = {settings.topic(name) for role in topics.ROLES for name in topics.INPUTS[role] if name != topics.TICKS}
    tables = {topics.changelog(settings, table) for role in topics.ROLES for table in topics.TABLES[role]}
    return read | tables | {settings.topic(topics.JOBS)}


async def check_belonging(settings: Settings, *further: Path) -> None:
    """See that cluster and topics are those that the folders' offsets are of; the first use records which they are.

    Args:
        settings: all settings.
        further: folders beside the data directory, of which the same holds.

    Raises:
        TopicsError: a folder was used with another cluster, or a topic was made anew since.
        StateError: the file of the topics' ids cannot be read.
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as client:
        cluster_id = str((await client.describe_cluster())["cluster_id"])
        ids = await topic_ids(client)
    held = {name: ids[name] for name in sorted(offsets_held(settings) & ids.keys())}
    for folder in (Path(settings.data_dir), *further):
        _check_cluster(folder, cluster_id)
        _check_topics(folder, held)


def _check_cluster(folder: Path, cluster_id: str) -> None:
    path = folder / CLUSTER_NAME
    recorded = path.read_text("utf-8") if path.exists() else cluster_id
    if recorded != cluster_id:
        raise TopicsError(
            f"directory {folder} belongs to cluster {recorded}, and the broker is {cluster_id}",
            "name that cluster's broker with --bootstrap-servers, or another folder with --data-dir and state_dir",
        )
    if not path.exists():
        write_atomically(path, cluster_id.encode())


def _check_topics(folder: Path, ids: Mapping[str, str]) -> None:
    path = folder / TOPICS_NAME
    known = _known_ids(path)
    for name, topic_id in ids.items():
        if known.get(name, topic_id) != topic_id:
            raise TopicsError(
                f"topic {name} was deleted and made again: {folder} holds offsets of the one before "
                f"(id {known[name]}, now {topic_id})",
                f"start a new deployment (another topics.prefix, data_dir and state_dir), or reset this one as "
                f"'Topics that were made again' in {_GUIDE} says",
            )
    if not ids.keys() <= known.keys():
        write_atomically(path, json.dumps({**known, **ids}, indent=2).encode() + b"\n")


def _known_ids(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise _unreadable(path) from error


def note_committed(settings: Settings, lag: Iterable[PartitionLag]) -> None:
    """Keep what the groups have committed, for a broker that forgets it; offsets it has forgotten stay.

    Raises:
        StateError: the file of it cannot be read.
    """
    path = Path(settings.data_dir) / COMMITTED_NAME
    known = {(row.group, row.topic, row.partition): row.committed for row in lag if row.committed is not None}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*place, offset] for place, offset in sorted({**_committed(path), **known}.items()))
    if not path.exists() or path.read_text("utf-8") != text.getvalue():
        write_atomically(path, text.getvalue().encode())


async def check_committed(settings: Settings) -> None:
    """See that no role's group has lost its commits: brokers forget those of a group without members after a week.

    Raises:
        StateError: a group has committed before, and the broker knows of nothing; or the file of it cannot be read.
        ConnectionFailedError: the broker cannot be reached.
    """
    path = Path(settings.data_dir) / COMMITTED_NAME
    committed = _committed(path)
    for role in topics.ROLES:
        group = topics.group(settings, role)
        read = {topic for of, topic, _ in committed if of == group}
        if not read:
            continue
        if all(offset is None for offset in (await committed_offsets(settings, group, read)).values()):
            raise StateError(
                f"the broker has forgotten what group {group} had read (offsets.retention.minutes): events would be "
                "taken for new ones",
                f"hand back what {path} tells, as 'Offsets that expired' in {_GUIDE} says, or start a new deployment",
            )


def _committed(path: Path) -> dict[tuple[str, str, int], int]:
    if not path.exists():
        return {}
    try:
        rows = csv.reader(io.StringIO(path.read_text("utf-8")))
        return {(group, topic, int(partition)): int(offset) for group, topic, partition, offset in rows}
    except (ValueError, csv.Error) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> StateError:
    return StateError(
        f"{path} cannot be read",
        "put it back from a backup, or delete it: it is then made anew from what the broker has",
    )
