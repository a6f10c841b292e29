"""A throw-away plant of real processes: what `tickplant demo` runs."""
