"""Engines beside DuckDB: where the stages from staging to features run, and models are fitted."""
