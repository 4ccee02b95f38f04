"""The plan of a simulated city: roads, cameras, vehicles and who passes where when."""
