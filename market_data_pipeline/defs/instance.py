"""Dagster's own history: where it lies for each lake, and a SQLite storage that waits where Dagster's would fail.

`dagster.yaml` names WaitingInstance, so that every process of Dagster's (web server, daemon, code server, run) uses it.
"""

import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Engine, event

from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.settings import read_values

WAIT_SECONDS = 300
"""How long a connection waits for another process to finish writing before it gives up."""

_CONFIG = "dagster.yaml"
_EMULATOR = "STORAGE_EMULATOR_HOST"


def prepare_home(project_folder: Path, lake_url: str, environ: Mapping[str, str]) -> Path:
    """The folder for DAGSTER_HOME, ready for use; several processes may ask for it at once.

    Where the settings name one it is theirs: made if missing, else left alone. Otherwise there is one for each lake
    under `.dagster/`, so that one lake's history never colours another's partitions, with the project's `dagster.yaml`
    in it.

    Args:
        project_folder: the folder of `dagster.yaml`, `.env` and `.dagster/`.
        lake_url: the lake's address; a relative folder is meant from the project's.
        environ: the environment.

    Raises:
        SettingError: DAGSTER_HOME is not absolute, or a folder cannot be made or written to.
    """
    values = read_values(environ, project_folder)
    try:
        if values["DAGSTER_HOME"]:
            home = Path(values["DAGSTER_HOME"]).expanduser()
            if not home.is_absolute():
                raise SettingError(f"DAGSTER_HOME is {str(home)!r}; Dagster wants an absolute path")
            home.mkdir(parents=True, exist_ok=True)
            return home
        home = project_folder.absolute() / ".dagster" / _home_name(project_folder, lake_url, values)
        home.mkdir(parents=True, exist_ok=True)
        _copy_changed(project_folder / _CONFIG, home / _CONFIG)
    except OSError as error:
        raise SettingError(f"Dagster's folder cannot be prepared: {error}") from error
    return home


def _home_name(project_folder: Path, lake_url: str, values: Mapping[str, str]) -> str:
    """A name that people recognise, and a hash of everything that tells this lake from others."""
    if not lake_url.startswith("gs://"):
        folder = (project_folder / Path(lake_url).expanduser()).resolve()
        return _slug(folder.name, str(folder))
    address = lake_url if lake_url == "gs://" else lake_url.rstrip("/")
    # the same bucket on a test server is another lake, and so is gs:// with other buckets
    parts = [address, values[_EMULATOR]]
    if address == "gs://":
        parts += [values[name] for name in sorted(values) if name.endswith("_BUCKET")]
    return _slug(address.removeprefix("gs://") or "gs", "\n".join(parts))


def _slug(name: str, address: str) -> str:
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "lake"
    return f"{readable}-{sha256(address.encode()).hexdigest()[:8]}"


def _copy_changed(source: Path, target: Path) -> None:
    wanted = source.read_bytes()
    with _locked(target.parent / ".lock"):
        if target.is_file() and target.read_bytes() == wanted:
            return
        # a process that reads the file meanwhile must see the old one or the new one, whole
        temporary = target.with_name(f".{uuid4().hex}.tmp")
        try:
            temporary.write_bytes(wanted)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits until no other thread or process is inside with the same file; a process that dies lets go of it."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@event.listens_for(Engine, "connect")
def _wait_for_writers(connection: object, _record: object) -> None:
    """Lets every SQLite connection of this process wait.

    Dagster opens a new connection for nearly every event. Those to runs and schedules wait 5 seconds, sqlite3's
    default, and there is no setting for it: under a few runs at once, or a slow disk, that is "database is locked".
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")


class WaitingStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage, whose tables are made by one process at a time.

    Without the lock several processes that meet on a new instance fail ("table … already exists"), and can leave two
    rows in `alembic_version`, after which no process can open the instance any more.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        with _locked(Path(base_dir) / ".lock"):
            super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """What Dagster calls to make the storage that a configuration names."""
        return cls.from_local(inst_data=inst_data, **config_value)


class WaitingInstance(dg.DagsterInstance):
    """An instance whose default storage is WaitingStorage, in whatever folder the instance has.

    A `storage: custom:` in `dagster.yaml` would have to name the folder, and could not where DAGSTER_HOME isn't set.
    """

    @classmethod
    def config_schema(cls) -> Mapping[str, object]:
        """No settings besides Dagster's."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """What holds where `dagster.yaml` says nothing."""
        storage = ConfigurableClassData(__name__, WaitingStorage.__name__, json.dumps({"base_dir": base_dir}))
        return {**InstanceRef.config_defaults(base_dir), "storage": storage}
