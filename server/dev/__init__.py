"""`reprise dev`: Redis, a server and workers on one machine, each a process of its own, restarted if it dies.

supervisor  the whole run: what is started, in which order it stops, what the person sees.
child       one process: start, restart with backoff, stop with a deadline.
valkey      the embedded server: its binary, its options, and one left behind by a run that was killed.
folder      `.reprise/`: what is kept, where the socket is, and that only one run uses it.
output      lines of all processes on one terminal.
launch      a few lines between us and a child, so that it does not outlive us.
"""
