"""How fast it is and how much memory it takes: figures for people, never part of the tests."""
