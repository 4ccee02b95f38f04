"""One file per family of data sets; each returns a `Dataset`. `vreid.data.open.open_dataset` chooses among them."""
