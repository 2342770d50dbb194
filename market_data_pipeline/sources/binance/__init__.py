"""The source `binance`: daily trades of Binance's public archive, fetched over HTTPS; no key is needed."""
