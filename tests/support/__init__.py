"""Worlds, folders and parsers that several test files share."""
