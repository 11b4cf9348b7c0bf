"""The one error a user may cause. Command lines print it as one line and exit with code 2."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message holds value, reason and remedy."""
