"""The command `fer`, a file a sub-command. Nothing heavy is imported before it must be."""
