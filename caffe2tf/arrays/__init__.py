"""Numbers and their order: native float32 of whatever a file holds, and Caffe's axis order turned to Keras's, fast."""
