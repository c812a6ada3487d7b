"""Programs that measure or search, run by hand: `python -m tests.bench.NAME`."""
