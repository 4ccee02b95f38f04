"""Vehicles: bodies, paint, marks, cargo and riders."""
