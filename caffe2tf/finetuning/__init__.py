"""Training a new head, or any layers, of a Caffe network on one's own pictures."""
