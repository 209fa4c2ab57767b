"""The models there are: what is known and measured of each, their prices and keys, and the choice among them."""
