"""Caffe's files of any age, in; a NetParameter of today's layers for inference, and the blobs' arrays, out."""
