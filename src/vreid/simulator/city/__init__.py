"""City planning: roads, cameras, identities and trips."""
