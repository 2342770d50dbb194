"""The settings: one table, from which the documentation and `.env.example` are checked, and one frozen value.

A setting comes from the environment, else from `.env` in the working folder, else it has its default.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from market_data_pipeline.lake.bigquery import Warehouse, require_cloud
from market_data_pipeline.lake.stores import folder_at, open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import AVAILABILITY_ROOT, CANDLE_ROOT, META_ROOT, TICK_ROOT, TIMEFRAMES
from market_data_pipeline.model.errors import MarketDataError, SettingError
from market_data_pipeline.model.instruments import InstrumentType, Selection
from market_data_pipeline.model.windows import as_day
from market_data_pipeline.pods import StepPods
from market_data_pipeline.sources import NAMES as SOURCES
from market_data_pipeline.sources import Remote
from market_data_pipeline.transforms.candles import FILLS, Fill
from market_data_pipeline.transforms.labels import LabelKind
from market_data_pipeline.transforms.quality import Flaw, Thresholds, setting
from market_data_pipeline.transforms.signals import Recipe


class Automatic(StrEnum):
    """What can run by itself, by its name in the UI without the hour."""

    DAILY = "daily"
    CORRECTIONS = "corrections"
    MISSING_DAYS = "missing_days"


@dataclass(frozen=True)
class Variable:
    """One setting: its name in the environment, what holds without it, and what it is for."""

    name: str
    default: str
    meaning: str


_Name = TypeVar("_Name", bound=StrEnum)
_REMOTE = Remote()
_RECIPE = Recipe()
_GIGABYTE = 10**9
_MOST_DOWNLOADS = 64
_MOST_TRAINING_DAYS = 3_660
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")

VARIABLES = (
    Variable("MARKET_DATA_LAKE", "data", "where the lake lies: a folder, `gs://bucket[/prefix]`, or `gs://` alone"),
    Variable("MARKET_DATA_TICK_BUCKET", TICK_ROOT, "with `gs://` alone: the bucket of the ticks"),
    Variable("MARKET_DATA_CANDLES_BUCKET", CANDLE_ROOT, "with `gs://` alone: the bucket of candles, features, signals"),
    Variable("MARKET_DATA_AVAILABILITY_BUCKET", AVAILABILITY_ROOT, "with `gs://` alone: the bucket of the maps"),
    Variable("MARKET_DATA_META_BUCKET", META_ROOT, "with `gs://` alone: the bucket of everything else"),
    Variable("MARKET_DATA_SOURCE", "sample", f"where ticks come from: {', '.join(SOURCES[:-1])} or {SOURCES[-1]}"),
    Variable("MARKET_DATA_SOURCE_PATH", "", "the folder of the source `files`"),
    Variable("MARKET_DATA_INSTRUMENTS", "", "ids or globs, with commas, such as `binance:*:BTC-*`; empty for all"),
    Variable("TARDIS_API_KEY", "", "the key of the source `tardis`; without one, the first day of each month is free"),
    Variable("TARDIS_BASE_URL", _REMOTE.tardis_url, "where Tardis' files are fetched from"),
    Variable("TARDIS_API_URL", _REMOTE.tardis_api_url, "Tardis' API of exchanges and instruments"),
    Variable("BINANCE_BASE_URL", _REMOTE.binance_url, "where the files of Binance's archive are fetched from"),
    Variable("BINANCE_LIST_URL", _REMOTE.binance_list_url, "the bucket that lists Binance's archive"),
    Variable("MARKET_DATA_DOWNLOADS", str(_REMOTE.downloads), "files that are fetched at once"),
    Variable("MARKET_DATA_CACHE", str(_REMOTE.cache), "the folder that keeps fetched files"),
    Variable(
        "MARKET_DATA_CACHE_GB",
        f"{_REMOTE.cache_bytes / _GIGABYTE:g}",
        "gigabytes that it may hold, the files used longest ago go first; 0 keeps none",
    ),
    Variable("MARKET_DATA_START", "2019-01-01", "the first day that is a partition"),
    Variable("MARKET_DATA_DAYS_PER_RUN", "", "how many days a run of a backfill takes; empty for all in one"),
    Variable(
        "MARKET_DATA_STEP_PODS",
        "",
        "on Kubernetes: CPU and memory of the pod that each asset of a run then has, as `1:2Gi,ticks=2:4Gi`",
    ),
    Variable(
        "MARKET_DATA_EMPTY_CANDLES",
        "option=omit",
        "what stands for a candle without a trade: `flat`, `null` or `omit` by type, `flat` where nothing is said",
    ),
    Variable("MARKET_DATA_SIGNAL_TIMEFRAME", _RECIPE.timeframe.name, "the timeframe of the candles that get signals"),
    Variable(
        "MARKET_DATA_SIGNAL_TRAINING_DAYS",
        str(_RECIPE.training_days),
        "days before a day that its model may learn from",
    ),
    Variable(
        "MARKET_DATA_SIGNAL_LABEL", str(_RECIPE.label), f"what a model learns to foresee: {' or '.join(LabelKind)}"
    ),
    *(Variable(setting(each.name), f"{each.default:g}", each.metadata["meaning"]) for each in fields(Thresholds)),
    Variable("MARKET_DATA_QUALITY_BLOCKING", "", f"what stops a day, with commas, of {', '.join(Flaw)}"),
    Variable(
        "MARKET_DATA_AUTOMATIC",
        "",
        f"what runs by itself from the first start on, with commas, of {', '.join(Automatic)}; the UI can switch it",
    ),
    Variable("MARKET_DATA_WEBHOOK", "", 'where runs that failed are told of, by `{"text": …}`; empty for nowhere'),
    Variable(
        "MARKET_DATA_BIGQUERY",
        "",
        "`project.dataset` of BigQuery, where an asset keeps tables over the lake; empty for none",
    ),
    Variable(
        "MARKET_DATA_BIGQUERY_CONNECTION",
        "",
        "the connection by which these read the buckets, `location.name`; empty where those who ask may read them",
    ),
    Variable("STORAGE_EMULATOR_HOST", "", "a GCS test server, such as `http://127.0.0.1:9000`; without credentials"),
    Variable("DAGSTER_HOME", "", "Dagster's folder; empty for one of the project's own for each lake, in `.dagster/`"),
)

_BUCKETS = {
    "MARKET_DATA_TICK_BUCKET": TICK_ROOT,
    "MARKET_DATA_CANDLES_BUCKET": CANDLE_ROOT,
    "MARKET_DATA_AVAILABILITY_BUCKET": AVAILABILITY_ROOT,
    "MARKET_DATA_META_BUCKET": META_ROOT,
}


@dataclass(frozen=True)
class Settings:
    """What a run of the pipeline depends on; the attributes follow VARIABLES."""

    lake: str = "data"
    buckets: Mapping[str, str] = field(default_factory=dict)
    source: str = "sample"
    source_path: Path | None = None
    remote: Remote = field(default_factory=Remote)
    selection: Selection = field(default_factory=Selection)
    start: date = date(2019, 1, 1)
    days_per_run: int | None = None
    step_pods: StepPods = field(default_factory=StepPods)
    fills: Mapping[InstrumentType, Fill] = field(default_factory=lambda: FILLS)
    signals: Recipe = field(default_factory=Recipe)
    thresholds: Thresholds = field(default_factory=Thresholds)
    blocking: frozenset[Flaw] = frozenset()
    automatic: frozenset[Automatic] = frozenset()
    webhook: str = field(default="", repr=False)  # its address is mostly a secret
    bigquery: Warehouse | None = None
    emulator: str = ""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> "Settings":
        """The settings of the environment and of `.env` in a folder, by default the one that it is called in.

        Raises:
            SettingError: a value cannot be understood; the message names the setting and what is expected.
        """
        values = read_values(environment, folder)
        source = values["MARKET_DATA_SOURCE"]
        if source not in SOURCES:
            raise SettingError(f"MARKET_DATA_SOURCE is {source!r}; expected {' or '.join(SOURCES)}")
        path = values["MARKET_DATA_SOURCE_PATH"]
        return cls(
            lake=values["MARKET_DATA_LAKE"],
            buckets={root: values[name] for name, root in _BUCKETS.items()},
            source=source,
            source_path=folder_at(path, "MARKET_DATA_SOURCE_PATH") if path else None,
            remote=_remote(values),
            selection=_selection(values["MARKET_DATA_INSTRUMENTS"]),
            start=_start(values["MARKET_DATA_START"]),
            days_per_run=_days(values["MARKET_DATA_DAYS_PER_RUN"]),
            step_pods=StepPods.parse(values["MARKET_DATA_STEP_PODS"]),
            fills=_fills(values["MARKET_DATA_EMPTY_CANDLES"]),
            signals=_signals(values),
            thresholds=_thresholds(values),
            blocking=_names(Flaw, "MARKET_DATA_QUALITY_BLOCKING", values),
            automatic=_names(Automatic, "MARKET_DATA_AUTOMATIC", values),
            webhook=_webhook(values["MARKET_DATA_WEBHOOK"]),
            bigquery=_bigquery(values),
            emulator=values["STORAGE_EMULATOR_HOST"],
        )

    def open_store(self) -> ObjectStore:
        """The lake's store; raises SettingError where its address cannot be used."""
        return open_store(self.lake, self.buckets, emulator=self.emulator)


def _bigquery(values: Mapping[str, str]) -> Warehouse | None:
    named, connection = (values[f"MARKET_DATA_BIGQUERY{which}"] for which in ("", "_CONNECTION"))
    if not named:
        if connection:
            raise SettingError(
                f"MARKET_DATA_BIGQUERY_CONNECTION is {connection!r}, and MARKET_DATA_BIGQUERY names no dataset that "
                "the tables are made in; set both, or neither"
            )
        return None
    try:
        require_cloud(values["MARKET_DATA_LAKE"])
        return Warehouse.of(named, connection)
    except SettingError as error:
        raise SettingError(f"MARKET_DATA_BIGQUERY is {named!r}: {error}") from error


def _webhook(text: str) -> str:
    if text and not re.match(r"https?://[^/]", text):
        raise SettingError("MARKET_DATA_WEBHOOK is no address; expected https://…")
    return text


def read_values(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> dict[str, str]:
    """The texts of all settings: of the environment, else of `.env`, else the defaults; an empty text is none.

    Raises:
        SettingError: `.env` cannot be read.
    """
    from dotenv import dotenv_values

    given = os.environ if environment is None else environment
    path = (folder or Path.cwd()) / ".env"
    try:
        stored = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        # no cause: the decoder's error holds the whole file, and keys stand in it
        raise SettingError(f"{path}: the file of settings cannot be read: {why}") from None
    return {
        variable.name: (given.get(variable.name) or stored.get(variable.name) or variable.default).strip()
        for variable in VARIABLES
    }


def _selection(text: str) -> Selection:
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return Selection.of(names or None)
    except MarketDataError as error:
        raise SettingError(f"MARKET_DATA_INSTRUMENTS: {error}") from error


def _remote(values: Mapping[str, str]) -> Remote:
    downloads, gigabytes = values["MARKET_DATA_DOWNLOADS"], values["MARKET_DATA_CACHE_GB"]
    if not _NUMBER.fullmatch(downloads) or not 1 <= int(downloads) <= _MOST_DOWNLOADS:
        raise SettingError(f"MARKET_DATA_DOWNLOADS is {downloads!r}; expected a number from 1 to {_MOST_DOWNLOADS}")
    if not _DECIMAL.fullmatch(gigabytes):
        raise SettingError(f"MARKET_DATA_CACHE_GB is {gigabytes!r}; expected a number of gigabytes, 0 for no cache")
    return Remote(
        tardis_url=values["TARDIS_BASE_URL"],
        tardis_api_url=values["TARDIS_API_URL"],
        tardis_key=values["TARDIS_API_KEY"],
        binance_url=values["BINANCE_BASE_URL"],
        binance_list_url=values["BINANCE_LIST_URL"],
        downloads=int(downloads),
        cache=folder_at(values["MARKET_DATA_CACHE"], "MARKET_DATA_CACHE"),
        cache_bytes=round(float(gigabytes) * _GIGABYTE),
    )


def _signals(values: Mapping[str, str]) -> Recipe:
    frame, days, label = (values[f"MARKET_DATA_SIGNAL_{name}"] for name in ("TIMEFRAME", "TRAINING_DAYS", "LABEL"))
    if frame not in TIMEFRAMES:
        raise SettingError(f"MARKET_DATA_SIGNAL_TIMEFRAME is {frame!r}; expected one of {', '.join(TIMEFRAMES)}")
    if not days.isdecimal() or not 2 <= int(days) <= _MOST_TRAINING_DAYS:
        raise SettingError(
            f"MARKET_DATA_SIGNAL_TRAINING_DAYS is {days!r}; expected a number of days from 2 to {_MOST_TRAINING_DAYS}"
        )
    if label not in tuple(LabelKind):
        raise SettingError(f"MARKET_DATA_SIGNAL_LABEL is {label!r}; expected {' or '.join(LabelKind)}")
    return Recipe(timeframe=TIMEFRAMES[frame], training_days=int(days), label=LabelKind(label))


def _start(text: str) -> date:
    try:
        return as_day(text)
    except MarketDataError as error:
        raise SettingError(f"MARKET_DATA_START: {error}") from error


def _days(text: str) -> int | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise SettingError(f"MARKET_DATA_DAYS_PER_RUN is {text!r}; expected a number of days, 1 or more")
    return int(text)


def _thresholds(values: Mapping[str, str]) -> Thresholds:
    numbers = {}
    for each in fields(Thresholds):
        text, most = values[setting(each.name)], each.metadata["most"]
        if not _DECIMAL.fullmatch(text) or float(text) > most:
            span = "0 or more" if math.isinf(most) else f"from 0 to {most:g} (0.02 is 2 %)"
            raise SettingError(
                f"{setting(each.name)} is {text!r}; expected a number, {span}: {each.metadata['meaning']}"
            )
        numbers[each.name] = float(text)
    return Thresholds(**numbers)


def _names(known: type[_Name], setting_name: str, values: Mapping[str, str]) -> frozenset[_Name]:
    names = [name.strip() for name in values[setting_name].split(",") if name.strip()]
    unknown = [name for name in names if name not in list(known)]
    if unknown:
        raise SettingError(f"{setting_name}: {unknown[0]!r} is none of {', '.join(known)}")
    return frozenset(map(known, names))


def _fills(text: str) -> Mapping[InstrumentType, Fill]:
    fills = dict.fromkeys(InstrumentType, Fill.FLAT)
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, _, fill = part.partition("=")
        try:
            fills[InstrumentType.named(kind.strip())] = Fill(fill.strip())
        except ValueError as error:
            raise SettingError(
                f"MARKET_DATA_EMPTY_CANDLES: {part!r} is not understood ({error}); write it as spot=flat,option=omit"
            ) from error
    return fills
