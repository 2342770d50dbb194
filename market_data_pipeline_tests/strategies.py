"""What hypothesis draws from: instruments and days."""

from datetime import date
from string import ascii_lowercase, ascii_uppercase, digits

from hypothesis import strategies as st

from market_data_pipeline.model.instruments import Instrument

assets = st.text(ascii_uppercase + digits, min_size=1, max_size=32)
venues = (
    st.lists(st.text(ascii_lowercase + digits, min_size=1, max_size=12), min_size=1, max_size=4)
    .map("-".join)
    .filter(lambda venue: len(venue) <= 32)
)
expiries = st.dates(date(2000, 1, 1), date(2099, 12, 31))
strikes = st.builds(
    "{}{}".format,
    st.integers(0, 10**12 - 1),
    st.just("") | st.text(digits, min_size=1, max_size=12).map(".{}".format),
)
sides = st.sampled_from("CP")
options = st.builds(Instrument.option, venues, assets, assets, strikes, expiries, sides)
instruments = (
    st.builds(Instrument.spot, venues, assets, assets)
    | st.builds(Instrument.perpetual, venues, assets, assets)
    | st.builds(Instrument.future, venues, assets, assets, expiries)
    | options
)
days = st.dates(date(1, 1, 1), date(9999, 12, 31))
