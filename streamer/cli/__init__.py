"""The command line: one parser, shared flags, one module a command."""
