"""The commands of the command line, one module a group; nothing heavy is imported before a command needs it."""
