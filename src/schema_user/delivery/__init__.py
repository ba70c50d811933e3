"""Messages on their way out: the worker that claims them, and one sender for each channel."""
