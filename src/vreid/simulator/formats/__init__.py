"""The folders of published data sets that the simulator writes."""
