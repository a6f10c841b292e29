"""Pure functions on arrays of rows."""
