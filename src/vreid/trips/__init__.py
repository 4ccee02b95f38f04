"""Trips: tracklets of a network of cameras linked into the paths of vehicles; travel times, origins, destinations."""
