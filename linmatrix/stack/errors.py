"""What the stack says when it cannot go on."""


class StackError(Exception):
    """A reason for a person, in a sentence or two; shown without a traceback."""
