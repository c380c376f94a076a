"""One pod: its state, the decision what to do next, its status, and the worker that does it."""
