"""Fixtures for every test. A test gets a real Redis, never a stand-in, and leaves nothing behind in it."""
