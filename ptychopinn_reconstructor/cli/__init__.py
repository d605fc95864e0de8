"""The command line `ptychopinn`: one module a command, imported when the command is run."""
