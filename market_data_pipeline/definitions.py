"""What Dagster loads: all definitions, for the settings of the environment."""

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.settings import Settings

defs = build_definitions(Settings.load())
