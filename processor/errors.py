"""What a user can mend."""


class ConfigError(ValueError):
    """A configuration that a user can mend: the message names the file and key."""
