"""`python -m caffe2tf` is the command `caffe2tf`."""

from caffe2tf.cli import main

main(prog_name="caffe2tf")
