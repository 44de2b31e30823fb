"""Load: subscribers that check what they get, and publishers that keep their pace. Each in a process of its own.

`transcript` decides whether a subscriber got every event once and in order, `response` takes HTTP apart; both do no
input or output. `subscribers` is the epoll loop around them, `publishing` the writer for peers that are published to.
`spec` is what crosses the process boundary and `child` how it crosses. Nothing here knows a peer or the product.
"""
