"""Random networks that Caffe takes: `make(seed)` gives the same one on every machine.

`legal`, `shapes`, `computing`, `moving`: Caffe's rules, apart from the package's. `making`, `proposals`,
`proposals_moving`, `finishing`: nets by chance. `checks`: what must hold of each. `shrinking`: the smallest net of
which it does not. `real`: what real Caffe gives, where it is at hand.
"""

from collections.abc import Collection

import numpy as np

from tests.random_nets import proposals, proposals_moving
from tests.random_nets.finishing import finish
from tests.random_nets.making import Maker, attempt
from tests.random_nets.sample import Sample

# What a net may have beyond the plain. All of it is legal Caffe; a test that cannot follow leaves a name out and says why.
_NAMES = (
    "alias conv_no_spatial conv_thin constant_weights crop_ranks dummy_uneven eltwise_scalars filter flatten_before forks "
    "im2col_any kernel_overhang level max_coeff mvn_rank names nan no_axes norm_of_im2col pool_edges relu_slope shared_statistics "
    "softmax_rank6 stages"
)
FEATURES = frozenset(_NAMES.split())

_CHANCES = {
    proposals.pointwise: 20,
    proposals.softmax: 3,
    proposals.batch_norm: 5,
    proposals.normalization: 5,
    proposals.convolution: 16,
    proposals.pooling: 10,
    proposals.spp: 2,
    proposals.inner_product: 7,
    proposals.eltwise: 9,
    proposals.scale: 8,
    proposals_moving.reduction: 3,
    proposals_moving.arg_max: 3,
    proposals_moving.concat: 7,
    proposals_moving.slices: 5,
    proposals_moving.crop: 4,
    proposals_moving.flatten: 4,
    proposals_moving.reshape: 6,
    proposals_moving.tile: 3,
    proposals_moving.split: 2,
    proposals_moving.silence: 0.5,
    proposals_moving.batch_reindex: 1.5,
    proposals_moving.filter_items: 1.5,
    proposals_moving.embed: 3,
    proposals_moving.recurrent: 3,
    proposals_moving.lstm_unit: 1,
    proposals_moving.constant: 3,
    proposals_moving.forks: 6,
}


def make(seed: int, features: Collection[str] = FEATURES) -> Sample:
    """The net of this seed, of 3 to 12 layers beside its inputs; other `features`, another net."""
    maker = Maker(np.random.RandomState(seed), frozenset(features))
    chances = {
        proposal: share
        for proposal, share in _CHANCES.items()
        if ("filter" in features or proposal is not proposals_moving.filter_items)
        and ("forks" in features or proposal is not proposals_moving.forks)
    }
    weights = np.array(list(chances.values())) / sum(chances.values())
    maker.input(proposals_moving.first_shape(maker))
    if maker.chance(0.25):
        maker.input(proposals_moving.first_shape(maker))
    for _ in range(maker.some(3, 12)):
        attempt(maker, list(chances), weights)
    return finish(maker, seed)
