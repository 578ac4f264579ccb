"""The version registry: every trained version of every tier, with its files' hashes, and which one is in use.

`store` keeps the versions and their history on disk, `naming` makes names from what a version is made of.
"""

from trainers.versions.naming import library_versions, version_name
from trainers.versions.store import VersionStore

__all__ = ["VersionStore", "library_versions", "version_name"]
