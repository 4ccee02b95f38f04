"""The search service: an HTTP API and server-rendered pages over a store."""
