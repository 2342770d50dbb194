"""The source `tardis`: daily files of Tardis.dev, fetched over HTTPS."""
