"""The later generation of v3alpha: the same commands and queries under ``/resources/v3alpha``, in shapes of its own."""
