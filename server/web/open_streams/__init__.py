"""Streams that programs write over HTTP: all of `/streams` but following one.

drafts    the events in a body.
publish   POST /streams/{name}/events.
manage    making a stream with settings, looking at it, closing and deleting it, listing.
history   pages of events as JSON.
"""
