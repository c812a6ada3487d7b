"""A NetParameter and blobs, in; a Net, out: wired, every shape known, weights checked against the layers that take them."""
