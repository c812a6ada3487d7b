"""A Net and what Caffe computed of it, in; a report in numbers, out: is it still the same network?"""
