"""Where Redis is: one server, a master that Sentinel watches over, or a Cluster.

address      what a URL says, and what is wrong with it.
credentials  a password that is read from a file whenever a connection is made.
node         the client of one server, for asyncio and for threads.
belief       whom to believe where sentinels or nodes do not agree.
watching     a look that is taken again and again.
sentinel     the client of whichever server is the master now; sentinel_sync for threads.
slots        which node of a Cluster has which keys.
cluster      the client of a Cluster, over those of its nodes; cluster_sync for threads.

`server.streams.connections` picks one by the URL. Who sends single commands need not know which it is. Who keeps a
connection of his own (lanes, doorbells, blocking reads), or has to hear every node (probes, checks, what is read in
one command over several keys), asks `connections.cluster_of`. Nothing in here knows what commands mean.
"""
