import re

import pytest

from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources import NAMES, Remote

KEY = "TD.secret-key_0123456789"


def load(tmp_path, **values: str) -> Settings:
    return Settings.load(values, tmp_path)


def test_without_settings_the_vendors_are_the_real_ones(tmp_path):
    assert load(tmp_path).remote == Remote()
    assert NAMES == ("sample", "files", "tardis", "binance")


def test_all_settings_arrive(tmp_path):
    settings = load(
        tmp_path,
        TARDIS_API_KEY=KEY,
        TARDIS_BASE_URL="http://127.0.0.1:1/",
        TARDIS_API_URL="http://127.0.0.1:2/api/",
        BINANCE_BASE_URL="http://127.0.0.1:3",
        BINANCE_LIST_URL="http://127.0.0.1:4/bucket",
        MARKET_DATA_DOWNLOADS="7",
        MARKET_DATA_CACHE=str(tmp_path / "cache"),
        MARKET_DATA_CACHE_GB="0.5",
    )
    assert settings.remote == Remote(
        tardis_url="http://127.0.0.1:1",
        tardis_api_url="http://127.0.0.1:2/api",
        tardis_key=KEY,
        binance_url="http://127.0.0.1:3",
        binance_list_url="http://127.0.0.1:4/bucket",
        downloads=7,
        cache=tmp_path / "cache",
        cache_bytes=500_000_000,
    )
    assert KEY not in repr(settings)


@pytest.mark.parametrize("name", ["TARDIS_BASE_URL", "TARDIS_API_URL", "BINANCE_BASE_URL", "BINANCE_LIST_URL"])
def test_an_address_is_an_address_and_holds_no_secret(tmp_path, name):
    for value in ("datasets.tardis.dev", "ftp://x", "https://", "http://[", "/v1"):
        with pytest.raises(SettingError, match=rf"{name} is {re.escape(repr(value))}; expected an address"):
            load(tmp_path, **{name: value})
    for value in ("https://x/?key=hidden", "https://x/#hidden", "ftp://x?hidden#hidden"):
        with pytest.raises(SettingError, match=f"{name} is .*; expected an address .* without . and #") as caught:
            load(tmp_path, **{name: value})
        assert "hidden" not in str(caught.value)
    for value in ("https://user:hidden@x", "https://hidden@x/y", "http://[hidden@", "user:hidden@x", "ftp://hidden@x"):
        with pytest.raises(SettingError, match=f"{name} holds a user name or password") as caught:
            load(tmp_path, **{name: value})
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", ["TD.secret\nX-Other: 1", "TD.secret key", "TD.secrét"])
def test_a_key_that_is_none_is_refused_without_being_shown(tmp_path, key):
    with pytest.raises(SettingError, match="TARDIS_API_KEY holds") as caught:
        load(tmp_path, TARDIS_API_KEY=key)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("MARKET_DATA_DOWNLOADS", value) for value in ("0", "-1", "65", "many", "1.5")),
        *(("MARKET_DATA_CACHE_GB", value) for value in ("-1", "much", "nan", "1e3", "1.", ".5")),
    ],
)
def test_a_number_is_a_number(tmp_path, name, value):
    with pytest.raises(SettingError, match=f"{name} is '{re.escape(value)}'; expected"):
        load(tmp_path, **{name: value})


def test_no_cache_is_zero(tmp_path):
    assert load(tmp_path, MARKET_DATA_CACHE_GB="0").remote.cache_bytes == 0
