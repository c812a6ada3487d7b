"""Where a run computes: one device, several of this machine, or several machines. One design, on tf.distribute."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model.build import to_numpy
from caffe2tf.keras_model.device import DeviceError

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Placement:
    """`strategy`: the tf.distribute.Strategy; `share`: (replicas, those that are here), for `batches.dataset`; `chief`:
    whether this process writes results; `holds`: whether steps can take rows of tensors that lie on the device; `name`: for people."""

    def __init__(self, strategy: Any, name: str, worker: int = 0, workers: int = 1, holds: bool = True) -> None:
        self.strategy, self.name, self.worker, self.workers = strategy, name, worker, workers
        total = int(strategy.num_replicas_in_sync)
        self.holds = holds and total == 1
        self.share = total, tuple(range(worker * total // workers, (worker + 1) * total // workers))
        self.chief = worker == 0
        self._summed: Any = None

    def split(self, batch: Sequence[Any]) -> Any:
        """The tensors of this process's rows as values for each of its replicas."""
        count = len(self.share[1])
        if self.share[0] == 1:
            return batch
        rows = batch[-1].shape[0] // count

        def part(context: Any) -> tuple[Any, ...]:
            first = (context.replica_id_in_sync_group - self.share[1][0]) * rows
            return tuple(tensor[first : first + rows] for tensor in batch)

        return self.strategy.experimental_distribute_values_from_function(part)

    def one(self, value: Any) -> Any:
        """What all replicas agree on, as NumPy."""
        return to_numpy(self.strategy.experimental_local_results(value)[0])

    def total(self, value: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The sum of the workers' NumPy arrays, on each of them."""
        if self.workers == 1:
            return value
        import tensorflow as tf

        if self._summed is None:

            def run(given: Any) -> Any:
                # Replicas of one worker give the same, of which one counts.
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group % len(self.share[1]) == 0
                mine = tf.where(first, given, tf.zeros_like(given))
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

            self._summed = tf.function(lambda given: self.strategy.run(run, args=(given,)), autograph=False)
        kind = value.dtype if value.dtype in (np.float32, np.int32, np.int64) else np.int64
        found: NDArray[_Scalar] = self.one(self._summed(tf.constant(value.astype(kind)))).astype(value.dtype)
        return found

    def barrier(self) -> None:
        """Waits until every worker is here."""
        self.total(np.zeros(1, np.int32))

    def spread(self, value: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The chief's NumPy array `value`, on every worker; the others give one of the same shape."""
        return self.total(value if self.chief else np.zeros_like(value))

    def spread_text(self, text: str) -> str:
        """The chief's `text` on every worker; what the others give does not count."""
        if self.workers == 1:
            return text
        data = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        size = int(self.spread(np.array([len(data)], np.int32))[0])
        return bytes(
            self.spread(np.resize(data, size) if self.chief else np.zeros(size, np.int32)).astype(np.uint8)
        ).decode()


@contextlib.contextmanager
def placed(device: str = "auto", precision: str = "float32") -> Iterator[Placement]:
    """A Placement for the block: MultiWorkerMirroredStrategy where TF_CONFIG or a step of SLURM's names several machines, MirroredStrategy for several GPUs
    ("auto" takes all, "gpu:0,gpu:1" some; "cpu:0,cpu:1" cuts the processor in two, to try it out), else one device.

    Must come before TensorFlow computes anything. Raises DeviceError.
    """
    cluster = _cluster()
    names = device.split(",")
    if precision == "tf32" and (names[0].startswith("cpu") or not devices.gpus()):
        raise DeviceError("`precision` tf32 needs a GPU that has it; this runs on the cpu")
    if len(set(names)) < len(names):
        raise DeviceError(f"`device` {device} names a device twice")
    if devices.backend() != "tensorflow":
        with _elsewhere(device, precision, len(names) > 1 or cluster is not None) as placement:
            yield placement
    elif cluster is not None:
        with devices.computing_in(precision):
            yield _machines(*cluster, device)
    elif names == ["auto"] and len(devices.gpus()) > 1:
        with _mirrored([f"gpu:{n}" for n in range(len(devices.gpus()))], precision) as placement:
            yield placement
    elif len(names) > 1:
        with _mirrored(names, precision) as placement:
            yield placement
    else:
        with devices.running(device, precision) as running:
            import tensorflow as tf

            yield Placement(tf.distribute.get_strategy(), running["device"])


@contextlib.contextmanager
def _elsewhere(device: str, precision: str, several: bool) -> Iterator[Placement]:
    """On JAX or PyTorch, where TensorFlow only hands out batches."""
    import tensorflow as tf

    name = devices.library(devices.backend())
    if several:
        raise DeviceError(f"{name} trains on one device here; KERAS_BACKEND=tensorflow on several")
    takes = ["float32", "tf32"] if name == "PyTorch" else ["float32", "tf32", "mixed_bfloat16"]
    if precision not in takes:
        raise DeviceError(f"{name} trains here in {', '.join(takes)}; KERAS_BACKEND=tensorflow in {precision} too")
    with contextlib.suppress(RuntimeError):  # where it has begun to compute
        tf.config.set_visible_devices([], "GPU")  # whose memory it would take whole
    with devices.running(device, precision) as running:
        yield Placement(tf.distribute.get_strategy(), f"{running['device']} ({name})", holds=False)


@contextlib.contextmanager
def _mirrored(names: Sequence[str], precision: str) -> Iterator[Placement]:
    import tensorflow as tf

    kinds = {name.partition(":")[0] for name in names}
    if kinds == {"cpu"} and sorted(names) == [f"cpu:{n}" for n in range(len(names))]:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * len(names))
        except RuntimeError:
            if len(tf.config.list_logical_devices("CPU")) < len(names):
                raise DeviceError(
                    "the processor can only be cut before TensorFlow computes; start a new process"
                ) from None
    elif kinds == {"gpu"}:
        for name in names:
            devices.choose(name)
    else:
        raise DeviceError(f"`device` {','.join(names)}; several devices are gpu:0,gpu:1,... or cpu:0,cpu:1,...")
    reduce = None if kinds == {"gpu"} else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy([f"/{name}" for name in names], cross_device_ops=reduce)
    with devices.computing_in(precision):
        yield Placement(strategy, f"{len(names)} devices ({', '.join(names)})")


@contextlib.contextmanager
def watched(placed: Placement) -> Iterator[None]:
    """Makes one line of what TensorFlow raises in the block where another worker is gone. Raises DeviceError."""
    try:
        yield
    except Exception as error:
        # TensorFlow's own errors, whose class cannot be named before it is loaded.
        if placed.workers > 1 and type(error).__module__.startswith("tensorflow."):
            why = f"a worker is gone ({type(error).__name__}), see what it said; `resume`, on all of them, goes on"
            raise DeviceError(why) from None
        raise


def worker() -> int:
    """The number of this process among the workers, 0 without others. Raises DeviceError."""
    cluster = _cluster()
    return cluster[0] if cluster else 0


def _cluster() -> tuple[int, list[str]] | None:
    """(this worker, the workers as HOST:PORT) of TF_CONFIG, else of SLURM's variables; None without either. Raises DeviceError."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return _slurm()
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], task["index"]
        names = set(cluster)
    except (ValueError, TypeError, KeyError) as error:
        what = f"no JSON ({error})" if isinstance(error, ValueError) else "incomplete"
        form = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        raise DeviceError(f"TF_CONFIG is {what}; takes {form}") from None
    if not {"worker", "chief"} & names or not names <= {"worker", "chief"} or kind not in names:
        raise DeviceError(
            f"TF_CONFIG names the task '{kind}' of {', '.join(cluster)}; takes workers alone, and a chief"
        )
    # Kubernetes' training operator names a chief beside the workers: it is the first of them.
    jobs = [(job, cluster[job]) for job in ("chief", "worker") if job in names]
    listed = all(isinstance(one, list) and all(isinstance(host, str) for host in one) for _, one in jobs)
    if not listed or type(index) is not int or not 0 <= index < len(cluster[kind]):
        raise DeviceError(f"TF_CONFIG has no {kind} {index!r}; its {kind}s are {cluster[kind]}, counted from 0")
    before = len(cluster["chief"]) if kind == "worker" and "chief" in names else 0
    return before + index, [host for _, hosts in jobs for host in hosts]


def _slurm() -> tuple[int, list[str]] | None:
    """The same of the step that `srun` started with several tasks; None outside of one."""
    count = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if not count.isdecimal() or int(count) < 2:
        return None
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=1 << 10, gpus_per_task=1, auto_set_gpu=False
        )
        hosts = resolver.cluster_spec().as_dict()["worker"]
        return int(resolver.get_task_info()[1]), list(hosts)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DeviceError(f"SLURM's variables do not say who the {count} tasks are ({error}); set TF_CONFIG") from None


def _machines(index: int, workers: Sequence[str], device: str) -> Placement:
    import tensorflow as tf

    where, name = devices.choose(device)
    if device != "auto":
        kind, _, number = where.partition(":")
        found = tf.config.list_physical_devices("GPU")
        tf.config.set_visible_devices([found[int(number)]] if kind == "gpu" else [], "GPU")
    cluster = tf.train.ClusterSpec({"worker": list(workers)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=index, rpc_layer="grpc"
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise DeviceError(f"worker {index} ({workers[index]}) cannot join: {str(error).splitlines()[0]}") from None
    return Placement(strategy, f"worker {index} of {len(workers)} ({name})", index, len(workers))
