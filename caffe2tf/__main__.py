"""`python -m caffe2tf` is the command `caffe2tf`; its usage lines say what was typed."""

from caffe2tf.cli.main import main

main()
