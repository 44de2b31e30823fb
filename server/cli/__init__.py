"""The commands of `reprise`.

application  the typer application: which commands there are, and what an error looks like.
commands  what each takes: arguments, options, help.
run       `reprise run`: starts a task over HTTP and follows it.
publish   `reprise publish`: an event, or each line of an input, over HTTP.
become_worker  `reprise worker`: the program of workers takes this process over.
lines     the lines of an input as events.
sending   one request, sent until it is answered.
tail      `reprise tail`: follows streams on a terminal.
targets   what is to be followed and from where, as an address.
printing  followed events on stdout.
interrupts  Ctrl-C between two events.
notes     what publish and tail say on stderr.
dead_letters  `reprise dead-letters`: what was given up, over HTTP.
server    the server that they ask, by the address they were given.
follow    reading one event stream to its end, over as many connections as it takes.
plain     text of others for a terminal.
decoding  the bytes of an event stream as events.
screen    what a followed task looks like on a terminal.

A command imports what it runs only when it runs: `reprise run` loads no server.
"""
