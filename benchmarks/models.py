"""Which library the signals' model comes from: a table for each market, and what each library costs.

Markets: a random walk, one with a planted linear signal, one with a planted interaction that no linear model can see,
and the sample's own features, from a lake that holds them. All models get the same inputs, labels, purging and embargo
as the signals do; the held-out days are scored. LightGBM is left out where it is not installed.

python -m benchmarks.models [--lake DATA --day 2024-08-08] [--seeds 5]
"""

import argparse
import io
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from market_data_pipeline import MarketDataLake
from market_data_pipeline.model.datasets import TIME, TIMEFRAMES
from market_data_pipeline.model.windows import as_day, microseconds, midnight
from market_data_pipeline.transforms import models
from market_data_pipeline.transforms.labels import independent
from market_data_pipeline.transforms.models import usable
from market_data_pipeline.transforms.scores import wilson
from market_data_pipeline.transforms.signals import CANDLE_COLUMNS, FEATURE_COLUMNS, Recipe, Series, series_of
from market_data_pipeline.transforms.technical import Bars, indicators

Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Fitted = tuple[Callable[[Reals], Reals], bytes]
"""A probability for each row of inputs, and the model as bytes."""

RECIPE = Recipe()
DAY = date(2024, 8, 8)
_QUARTERS = TIMEFRAMES["15m"].microseconds
_TREES = {"max_iter": 100, "learning_rate": 0.03, "max_leaf_nodes": 8, "min_samples_leaf": 50}


@dataclass(frozen=True)
class Contender:
    """One way to a model."""

    name: str
    fit: Callable[[Reals, Flags], Fitted]
    packages: tuple[str, ...]
    module: str
    artefact: str


def _logistic(inputs: Reals, up: Flags) -> Fitted:
    model = models.fit(inputs, up)
    return model.probability, json.dumps(asdict(model)).encode()


def _histogram(inputs: Reals, up: Flags) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(early_stopping=False, random_state=0, l2_regularization=1.0, **_TREES)
    model.fit(inputs, up)
    # its trees are private: there is no other way to keep it than to pickle it
    return lambda rows: model.predict_proba(rows)[:, 1], pickle.dumps(model)


def _lightgbm(inputs: Reals, up: Flags) -> Fitted:
    import lightgbm

    parameters = {
        "objective": "binary",
        "learning_rate": _TREES["learning_rate"],
        "num_leaves": _TREES["max_leaf_nodes"],
        "min_data_in_leaf": _TREES["min_samples_leaf"],
        "lambda_l2": 1.0,
        "deterministic": True,
        "force_row_wise": True,
        "seed": 0,
        "verbose": -1,
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(inputs, up), _TREES["max_iter"])
    return booster.predict, booster.model_to_string().encode()


_SKLEARN = ("scikit-learn", "scipy", "joblib", "threadpoolctl", "narwhals", "cloudpickle")
CONTENDERS = (
    Contender("LogisticRegression", _logistic, _SKLEARN, "sklearn.linear_model", "JSON of plain numbers"),
    Contender("HistGradientBoosting", _histogram, _SKLEARN, "sklearn.ensemble", "pickle only"),
    Contender("LightGBM", _lightgbm, ("lightgbm", "scipy", "narwhals"), "lightgbm", "its own text"),
)


def market(seed: int, kind: str) -> Series:
    """A made-up market: `random walk`, `linear` (a return comes back in part) or `interaction`.

    In the last a return comes back where takers bought more of the candle, and is reversed where they sold more.
    """
    draw = np.random.default_rng(seed)
    count = (RECIPE.training_days + 5) * 96
    returns, share = draw.normal(0, 3e-3, count), draw.random(count)
    for place in range(1, count):
        echo = {"random walk": 0.0, "linear": 0.2, "interaction": 0.7 * np.sign(share[place - 1] - 0.5)}[kind]
        returns[place] += echo * returns[place - 1]
    close = 100 * np.exp(np.cumsum(returns))
    before = np.concatenate(([100.0], close[:-1]))
    over, under = 1 + np.abs(draw.normal(0, 5e-4, (2, count)))
    high, low, volume = np.maximum(before, close) * over, np.minimum(before, close) / under, draw.lognormal(0, 1, count)
    opens = microseconds(midnight(DAY)) + (np.arange(count) - count + 96) * _QUARTERS
    features = indicators(Bars(opens, high, low, close, volume))
    features |= {"vwap_distance": 2 * close / (before + close) - 1, "signed_volume": (2 * share - 1) * volume}
    names = [name for name in FEATURE_COLUMNS["technical_features"] if name in features]
    stamps = pa.array(opens).view(TIME)
    columns = (stamps, high, low, close, volume, np.ones(count))
    return series_of(
        pa.table(dict(zip(CANDLE_COLUMNS, columns, strict=True))),
        {"technical_features": pa.table({"timestamp": stamps, **{name: features[name] for name in names}})},
        RECIPE,
    )


def stored(lake: MarketDataLake, day: date) -> Iterator[Series]:
    """What a lake holds of each instrument that has technical features on a day."""
    window, frame = RECIPE.window(day), RECIPE.timeframe.name
    for row in lake.coverage("technical_features", day, window.end).to_pylist():
        name = row["instrument_id"]
        features = {
            each: lake.features(name, each, window.start, window.end, timeframe=frame, columns=["timestamp", *columns])
            for each, columns in FEATURE_COLUMNS.items()
        }
        candles = lake.candles(name, frame, window.start, window.end, columns=CANDLE_COLUMNS)
        yield series_of(candles, features, RECIPE)


@dataclass
class Tally:
    """What a contender did on the markets of one kind, summed."""

    rows: int = 0
    independent: int = 0
    hits: int = 0
    base_hits: int = 0
    loss: float = 0.0
    base_loss: float = 0.0
    seconds: float = 0.0
    fits: int = 0
    size: int = 0
    same: bool = True


def add(tally: Tally, contender: Contender, series: Series, day: date) -> None:
    """Trains on what had ended before the held-out days, scores on them, and fits twice more for the bytes."""
    end = microseconds(midnight(day))
    start, held_out = (end - days * 86_400_000_000 for days in (RECIPE.training_days, RECIPE.held_out_days))
    embargo = RECIPE.embargo * RECIPE.timeframe.microseconds
    labels = series.labels
    chosen = (series.stamps >= start) & series.traded
    rows = np.flatnonzero(chosen & labels.ended(held_out, embargo))
    rows = rows[usable(series.inputs[rows])]
    unseen = np.flatnonzero(chosen & labels.ended(end, embargo) & (labels.start >= held_out))
    unseen = unseen[usable(series.inputs[unseen])]
    if len(rows) < RECIPE.least_rows or not len(unseen):
        return
    there = np.isfinite(series.inputs[rows]).any(axis=0)
    inputs, up = series.inputs[rows][:, there], labels.up[rows]
    predict, content = contender.fit(inputs, up)
    with threadpool_limits(1):
        # one thread's processor time, which others on the machine do not lengthen; the first fit was the slow one
        began = time.process_time()
        tally.same &= contender.fit(inputs, up)[1] == content
        tally.seconds += time.process_time() - began
    tally.fits += 1
    tally.size = max(tally.size, len(content))
    outcome, base = labels.up[unseen], float(up.mean())
    found = np.clip(predict(series.inputs[unseen][:, there]), 1e-6, 1 - 1e-6)
    tally.rows += len(unseen)
    tally.independent += independent(labels.start[unseen], labels.end[unseen])
    tally.hits += int(np.count_nonzero((found > 0.5) == outcome))
    tally.base_hits += int(np.count_nonzero(outcome == (base > 0.5)))
    tally.loss -= float(np.log(np.where(outcome, found, 1 - found)).sum())
    tally.base_loss -= float(np.log(np.where(outcome, base, 1 - base)).sum())


def print_market(name: str, found: list[Series], day: date, contenders: list[Contender]) -> None:
    """The table of one kind of market."""
    print(f"\n{name}: {len(found)} markets")
    print(f"{'':22}{'log loss':>9}{'base':>9}{'hits':>8}{'95 %':>17}{'base':>8}{'fit ms':>8}{'bytes':>9}  same bytes")
    for contender in contenders:
        tally = Tally()
        for series in found:
            add(tally, contender, series, day)
        if not tally.rows:
            print(f"{contender.name:22}too little history")
            continue
        low, high = wilson(tally.hits / tally.rows, tally.independent)
        print(
            f"{contender.name:22}{tally.loss / tally.rows:9.4f}{tally.base_loss / tally.rows:9.4f}"
            f"{tally.hits / tally.rows:8.1%}{low:9.1%}–{high:.1%}{tally.base_hits / tally.rows:9.1%}"
            f"{1_000 * tally.seconds / tally.fits:8.1f}{tally.size:9,}  {'yes' if tally.same else 'NO'}"
        )


def print_cost(contender: Contender, runs: int) -> None:
    """What a library costs before it has fitted anything."""
    began = [sys.executable, "-c", "import numpy, time; t = time.time()\nimport %s\nprint(time.time() - t)"]
    times = [
        float(subprocess.run([*began[:2], began[2] % contender.module], capture_output=True, check=True).stdout)
        for _ in range(runs)
    ]
    files = [file for name in contender.packages for file in distribution(name).files or ()]
    size = sum(path.stat().st_size for path in (file.locate() for file in files) if path.is_file())
    print(
        f"{contender.name:22}import {min(times):.2f} s; {size / 1e6:.0f} MB installed; kept as {contender.artefact}; "
        f"of the system: {', '.join(_of_the_system(contender)) or 'nothing'}"
    )


def _of_the_system(contender: Contender) -> list[str]:
    """OpenMP where the module loads that of the system, and not one of its own package."""
    code = f"import {contender.module}; print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    paths = {line.split()[-1] for line in io.StringIO(maps) if "libgomp" in line}
    return sorted(path for path in paths if "site-packages" not in path)


def _installed(contender: Contender) -> bool:
    try:
        return all(distribution(name) for name in contender.packages)
    except PackageNotFoundError:
        print(f"{contender.name} is not installed and is left out")
        return False


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="made-up markets of each kind")
    parser.add_argument("--runs", type=int, default=3, help="imports of each library; the fastest counts")
    parser.add_argument("--lake", help="a lake with technical features of the training days")
    parser.add_argument("--day", default=DAY.isoformat(), help="the day whose model is trained")
    arguments = parser.parse_args()
    contenders = [each for each in CONTENDERS if _installed(each)]
    kinds = ("random walk", "linear", "interaction")
    markets: dict[str, Any] = {kind: [market(seed, kind) for seed in range(arguments.seeds)] for kind in kinds}
    for name, found in markets.items():
        print_market(name, found, DAY, contenders)
    if arguments.lake:
        day = as_day(arguments.day)
        print_market("the lake's features", list(stored(MarketDataLake(arguments.lake), day)), day, contenders)
    print()
    for contender in contenders:
        print_cost(contender, arguments.runs)


if __name__ == "__main__":
    main()
