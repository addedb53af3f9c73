"""Compiled code, and nothing else. Only `accsim.simulate` calls it, after every check."""
