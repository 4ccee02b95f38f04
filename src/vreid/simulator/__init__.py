"""The simulator: a city of cameras and vehicles, rendered and written as CityFlowV2- and VehicleX-format folders."""
