"""Which SavedModels may be loaded without trust: loading one is running it, and its operations can read and write any file.

What is allowed is listed, and nothing else: the folder's files, the objects and the operations that `savedmodel.py` writes,
and operations of the same sort that Keras may take for the same layers another time.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from caffe2tf.formats._files import LABELS

_COMPUTING = """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul
    BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs BroadcastTo
    Case Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh
    CropAndResize Cumprod Cumsum DecodeJpeg DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Div DivNoNan Einsum
    Elu EmptyTensorList Equal Erf Exp ExpandDims Expm1 ExtractImagePatches Fill Floor FloorDiv FloorMod FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Inv Invert
    IsFinite IsInf IsNan LRN LeakyRelu LeftShift Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot
    LogicalOr MatMul Max MaxPool MaxPool3D MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Neg NextAfter NoOp
    NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall
    Placeholder Pow PreventGradient Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor ReverseSequence ReverseV2 RightShift Rint Round Rsqrt ScatterNd Select SelectV2
    Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV
    Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StopGradient
    StridedSlice Sub Sum Tan Tanh TensorListElementShape TensorListFromTensor TensorListGetItem TensorListLength
    TensorListPopBack TensorListPushBack TensorListReserve TensorListSetItem TensorListStack TensorScatterAdd
    TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack UnsortedSegmentMax Where While Xdivy
    Xlog1py Xlogy ZerosLike
"""
# Of variables, and of the functions that save and restore them, which nobody calls: the loader reads variables by itself.
_STORING = """
    AssignVariableOp DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin VarHandleOp
    VarIsInitializedOp
"""
COMPUTING, STORING = frozenset(_COMPUTING.split()), frozenset(_STORING.split())
_SIGNATURES = {"__saved_model_init_op", "serving_default"}
_PICTURES = {"classify_images", "classify_bytes"}
_KINDS = {"user_object", "bare_concrete_function", "variable", "function", "constant", "asset"}
_OBJECTS = {"trackable_list_wrapper", "trackable_dict_wrapper", "_generic_user_object", "signature_map"}


def strange(model: Any) -> str | None:
    """What in a SavedModel message caffe2tf does not write, in words; None where there is nothing."""
    if len(model.meta_graphs) != 1:
        return f"{len(model.meta_graphs)} graphs"
    graph = model.meta_graphs[0]
    if not graph.HasField("object_graph_def"):
        return "a graph of TensorFlow 1"
    if set(graph.signature_def) not in (_SIGNATURES, _SIGNATURES | _PICTURES):
        return f"the signatures {', '.join(sorted(graph.signature_def)) or 'none'}"
    if any(asset.filename != LABELS for asset in graph.asset_file_def):
        return "assets of others"
    if set(graph.collection_def) - {"saved_model_main_op"}:
        return "collections"
    found = _strange_object(graph.object_graph_def.nodes, len(graph.asset_file_def))
    return found or _strange_operation(graph.graph_def, set(graph.object_graph_def.concrete_functions))


def _strange_object(nodes: Iterable[Any], assets: int) -> str | None:
    for node in nodes:
        kind = node.WhichOneof("kind")
        if kind == "asset" and not 0 <= node.asset.asset_file_def_index < assets:
            return "an object of the kind asset without its file"
        if kind not in _KINDS or (kind == "user_object" and node.user_object.identifier not in _OBJECTS):
            return f"an object of the kind {node.user_object.identifier if kind == 'user_object' else kind}"
        if node.saveable_objects or node.registered_saver:  # functions that loading runs
            return "an object that saves itself"
    return None


def _strange_operation(graph: Any, entered: set[str]) -> str | None:
    """`entered`: the functions that can be called from outside, and so may not store, nor call what does."""
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    if graph.library.gradient or graph.library.registered_gradients:
        return "gradients of its own"
    everything = [*graph.node, *(node for nodes in functions.values() for node in nodes)]
    for node in everything:
        if node.op not in COMPUTING | STORING:
            return f"the operation {node.op}"
    ahead, seen = list(entered), set(entered)
    while ahead:
        for node in functions.get(ahead.pop(), ()):
            if node.op in STORING:
                return f"the operation {node.op} in what it computes"
            called = set(_called(node)) - seen
            seen |= called
            ahead += called
    return None


def _called(node: Any) -> Iterator[str]:
    """The functions that an operation's attributes name."""
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
