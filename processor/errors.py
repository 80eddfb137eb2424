"""Errors that the user can fix. The command line turns every ValueError and OSError into exit code 2."""


class ConfigError(ValueError):
    """A configuration that the user can fix: the message names the file and key."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or used: the message names the file and says what to do."""
