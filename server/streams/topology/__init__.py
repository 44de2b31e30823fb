"""Where Redis is: one server, a master that Sentinel watches over, or a Cluster.

address      what a URL says, and what is wrong with it.
credentials  a password that is read from a file whenever a connection is made.
node         the client of one server, for asyncio and for threads.
sentinel     the same, for whichever server is the master now.
slots        which node of a Cluster has which keys.
cluster      the client of a Cluster, over those of its nodes.

`server.streams.connections` picks one by the URL; nobody else has to know which it is.
"""
