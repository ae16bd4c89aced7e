"""The report's figures, one module each. Every function draws from tables alone and returns a matplotlib Figure."""
