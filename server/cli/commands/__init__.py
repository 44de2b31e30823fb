"""What each command of `reprise` takes: its arguments, options and help, a module a command.

shared        options that several have, and where the server is.
processes     `dev`, `server` and `worker`: what runs until it is ended.
run           `run`.
publish       `publish`.
tail          `tail`.
dead_letters  `dead-letters`, with commands of its own.

They hold no logic: each reads settings and calls the module that does the work, which it imports only then.
"""
