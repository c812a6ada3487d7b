"""The text format, against Google's own parser and against what users get wrong."""

import pytest
from google.protobuf import text_format

from caffe2tf.caffe import caffe_pb2, prototxt
from caffe2tf.errors import ParseError
from tests.helpers import GOLDEN

TEXTS = sorted(GOLDEN.glob("*/*/net.prototxt")) + sorted(GOLDEN.glob("*/deploy.prototxt"))


def parse(text, message=None):
    message = message or caffe_pb2.NetParameter()
    return message, prototxt.parse(text, message, "x.prototxt")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.parent.name)
def test_reads_as_google_does(path):
    text = path.read_text()
    message, warnings = parse(text)
    assert message == text_format.Parse(text, caffe_pb2.NetParameter())
    assert warnings == []


def test_every_way_of_writing_a_value():
    text = r"""
      name: 'it\'s' "\x41\101\n"  # two literals, one string
      layer < name: "a"; type: "LRN", top: ["x", "y"] >
      layer: { lrn_param { alpha: 1e-4f beta: .5 local_size: 0x5 k: -inf norm_region: 1 } }
      layer { pooling_param { pool: AVE global_pooling: True pad: 010 } loss_weight: [1, 2.5] }
      layer { relu_param { } include { } }
      input_dim: [1, 2]
    """
    message, warnings = parse(text)
    assert message == text_format.Parse(text, caffe_pb2.NetParameter())
    assert message.layer[2].pooling_param.pad == 8
    assert warnings == []


def test_a_sign_may_stand_apart():
    """So Caffe's parser reads it, protobuf's in C++; the one in Python does not."""
    text = "layer { lrn_param { alpha: - 1e-4 } loss_weight: - 2 }"
    assert parse(text)[0] == text_format.Parse(text.replace("- ", "-"), caffe_pb2.NetParameter())


def test_unknown_fields_of_forks_are_named_with_their_line():
    message, warnings = parse(
        'layer {\n name: "c"\n fancy_param { a: 1 b { c: "}" } d: [1, 2] }\n convolution_param { num_output: 2\n glow: ON }\n}'
    )
    assert message.layer[0].name == "c"
    assert message.layer[0].convolution_param.num_output == 2
    assert warnings == [
        "x.prototxt:3: unknown field 'fancy_param' in LayerParameter skipped",
        "x.prototxt:5: unknown field 'glow' in ConvolutionParameter skipped",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('layer {\n name: "a"\n', "3: the file ends inside the { opened on line 1"),
        ('layer { name: "a" name: "b" }', "1: field 'name' is given twice"),
        ("layer { name: 3 }", "1: field 'name' takes a quoted string, found 3"),
        ("\n\ninput_dim: three", "3: field 'input_dim' takes a whole number, found three"),
        ("layer { loss_weight: much }", "1: field 'loss_weight' takes a number, found much"),
        ("layer { loss_weight: - }", "1: field 'loss_weight' takes a number, found -"),
        ('input_dim: "3"', "field 'input_dim' takes a whole number, found the string '3'"),
        ("input_dim: 99999999999", "99999999999 is out of range for field 'input_dim'"),
        ("layer { pooling_param { pool: MEAN } }", "takes a value of PoolMethod (MAX, AVE, STOCHASTIC), found MEAN"),
        ("layer { pooling_param { global_pooling: yes } }", "takes a bool (true or false), found yes"),
        ("layer: 3", "field 'layer' takes a { block }, found 3"),
        ('name { a: 1 }', "field 'name' takes a value, found {"),
        ('name "a"', "expected : or { after 'name', found \"a\""),
        ("layer { ] }", "expected a field name, found ]"),
        ("name: `a`", "unexpected character '`'"),
        ("name: ['a', 'b']", "field 'name' takes one value, found a list"),
        ("x { " * 200, "messages nested more than 100 deep"),
    ],
)  # fmt: skip
def test_errors_name_line_and_what_is_allowed(text, why):
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value).startswith("x.prototxt:")
    assert why in str(caught.value)
