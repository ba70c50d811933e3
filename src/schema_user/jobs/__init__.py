"""Jobs at work: the runner that claims them, and a module for each kind."""
