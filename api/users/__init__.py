"""Users: who a token names, as a row."""
