"""The sample source: a small market that anyone can have, the same on every machine, for any day from 2019 on."""
