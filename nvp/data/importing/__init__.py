"""`nvp data import`: a data set of the images that people have."""
