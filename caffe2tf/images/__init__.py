"""Picture files, in; the network's input, out: decoded, resized, cropped, minus the mean, as Caffe does it."""
