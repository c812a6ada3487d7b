from caffe2tf.classification.classifier import classify as classify
from caffe2tf.drawing.visualize import visualize as visualize
from caffe2tf.errors import Caffe2TFError as Caffe2TFError
from caffe2tf.finetuning.finetune import finetune as finetune
from caffe2tf.finetuning.tables import features as features
from caffe2tf.formats import save as save
from caffe2tf.inspection.difference import diff as diff
from caffe2tf.inspection.summary import inspect as inspect
from caffe2tf.keras_model.model import forward as forward
from caffe2tf.keras_model.model import from_keras as from_keras
from caffe2tf.keras_model.model import to_keras as to_keras
from caffe2tf.loading import load as load
from caffe2tf.net.folding import fold as fold
from caffe2tf.net.net import Net as Net
from caffe2tf.plugins import plugin as plugin
from caffe2tf.samples.download import download as download
from caffe2tf.samples.sample import sample as sample
from caffe2tf.verification.verify import verify as verify

__version__: str
