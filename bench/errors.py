"""What can go wrong in a run of the bench."""


class BenchError(Exception):
    """A measurement could not be made; the text says why and, where it helps, what to do."""
