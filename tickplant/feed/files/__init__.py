"""Files of market data that others made: Databento DBN, CSV, Parquet."""
