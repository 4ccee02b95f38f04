"""Rendering: cameras, light, surroundings and sensor."""
