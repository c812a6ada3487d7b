"""What comes with the package, or with a digest from the network, to try everything on."""
