"""What holds for the house as a whole: what an import loads, and which floor may know which."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import market_data_pipeline_tests

ROOT = Path(market_data_pipeline_tests.__file__).parent.parent
HEAVY = ("dagster", "dagster_gcp", "google", "pandas", "polars", "duckdb", "pyarrow.dataset", "sklearn", "scipy")


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded once a new interpreter has run some code."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import market_data_pipeline",
        "from market_data_pipeline import MarketDataLake",
        "import market_data_pipeline.model.datasets, market_data_pipeline.model.windows",
        "import market_data_pipeline.transforms.candles, market_data_pipeline.transforms.availability",
        "import market_data_pipeline.transforms.technical, market_data_pipeline.lake.technical",
        "import market_data_pipeline.transforms.fundamental, market_data_pipeline.lake.fundamental",
        "import market_data_pipeline.transforms.signals, market_data_pipeline.lake.signals",
    ],
)
def test_a_local_run_pays_for_no_cloud_and_no_framework(code: str) -> None:
    loaded = loaded_by(code)
    assert "market_data_pipeline" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_package_alone_loads_next_to_nothing() -> None:
    loaded = loaded_by("import market_data_pipeline")
    assert [name for name in ("numpy", "pyarrow") if name in loaded] == []


@pytest.mark.parametrize("name", ["Nothing", "reader_of_all"])
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    import market_data_pipeline

    with pytest.raises(AttributeError, match=f"'market_data_pipeline' has no attribute '{name}'"):
        getattr(market_data_pipeline, name)


def test_a_file_imports_from_its_own_floor_or_below() -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_fixtures_stay_small() -> None:
    sizes = [path.stat().st_size for path in (Path(__file__).parent / "fixtures").rglob("*") if path.is_file()]
    assert sum(sizes) <= 2_000_000
