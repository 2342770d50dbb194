"""Bad weather on the way to Google Cloud Storage: faults of all kinds, at random, over a whole run through Dagster."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline
from market_data_pipeline_tests.gcs_server import Fault, GcsServer, Request
from market_data_pipeline_tests.parity import assert_layouts_agree, objects
from market_data_pipeline_tests.store_fixtures import gcs_ground

DAY = "2024-08-08"
SOURCE = SmallSource(
    [Instrument.parse(text) for text in ("binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD", "deribit:Perp:ETH-USD")],
    data_types=("trades",),
)


@dataclass
class Weather:
    """Draws a fault for some of the requests.

    Attributes:
        seed: of what is drawn.
        share: how many of the requests go wrong, 0 to 1.
        counted: the faults so far, by kind.
    """

    seed: int
    share: float
    counted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def __call__(self, request: Request) -> Fault | None:
        if self._draw.random() >= self.share:
            return None
        kinds = ["503", "429", "500", "cut", "lost", "slow"]
        # without a precondition the service never answers so
        kinds += ["412"] * 3 * any("GenerationMatch" in name for name in request.query)
        kind = self._draw.choice(kinds)
        self.counted[kind] += 1
        if kind.isdecimal():
            return Fault(lambda _: True, status=int(kind))
        if kind == "cut":
            return Fault(lambda _: True, cut=self._draw.randrange(200))
        return Fault(lambda _: True, lost=True) if kind == "lost" else Fault(lambda _: True, slow=0.05)


@dataclass(frozen=True)
class Passage:
    """How a day's run fared.

    Attributes:
        clean: every step and check succeeded.
        problems: what it says of the others.
        same: whether the lake is that of a run without faults.
        faults: by kind.
    """

    clean: bool
    problems: tuple[str, ...]
    same: bool
    faults: Counter[str]


def passage(server: GcsServer, endpoint: str, weather: Callable[[Request], Fault | None]) -> Passage:
    """A day's run in bad weather, and a second one in good weather, after which the lake must be as it should be."""
    wanted = _faultless(endpoint)
    ground = gcs_ground(endpoint)
    with pipeline(Settings(lake=ground.store.uri), SOURCE) as running:
        server.weather = weather
        try:
            outcome = running.run(DAY)
        finally:
            server.weather = None
        found = objects(ground.again())
        assert found.keys() <= wanted.keys()
        passed = Passage(outcome.clean, outcome.problems, found == wanted, getattr(weather, "counted", Counter()))
        again = running.run(DAY)
        assert again.clean, again.problems
    assert objects(ground.again()) == wanted
    assert_layouts_agree(ground.again())
    return passed


def _faultless(endpoint: str) -> dict[str, bytes]:
    ground = gcs_ground(endpoint)
    with pipeline(Settings(lake=ground.store.uri), SOURCE) as running:
        outcome = running.run(DAY)
        assert outcome.clean, outcome.problems
    return objects(ground.again())
