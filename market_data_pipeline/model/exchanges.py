"""Exchanges that the data vendor divides into several venues, and which of these trades the spot pairs."""

_SPOT_VENUES = {
    "binance-delivery": "binance",
    "binance-european-options": "binance",
    "binance-futures": "binance",
    "binance-options": "binance",
    "bitfinex-derivatives": "bitfinex",
    "bitget-futures": "bitget",
    "bybit": "bybit-spot",
    "bybit-options": "bybit-spot",
    "crypto-com-derivatives": "crypto-com",
    "cryptofacilities": "kraken",
    "gate-io-futures": "gate-io",
    "huobi-dm": "huobi",
    "huobi-dm-linear-swap": "huobi",
    "huobi-dm-options": "huobi",
    "huobi-dm-swap": "huobi",
    "kucoin-futures": "kucoin",
    "okex-futures": "okex",
    "okex-options": "okex",
    "okex-swap": "okex",
}


def spot_venue(venue: str) -> str:
    """The venue of the same exchange that trades spot pairs; a venue that trades everything is its own."""
    return _SPOT_VENUES.get(venue, venue)
