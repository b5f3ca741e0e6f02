"""What a task expects of its engines: which graphs, at which sizes they run, and how somebody else calls them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cmrsr.errors import EngineError
from cmrsr.runtime.bundle import MANIFEST, Bundle, Diffusion, load

Range = tuple[int, int, int]  # smallest, usual, largest
ROWS, COLUMNS = "rows", "columns"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKind:
    """One graph of a task's engines; a backend takes ``inputs`` and gives ``outputs`` by position.

    plans: sizes of its dynamic dimensions, one TensorRT plan each; without rows and columns, all that the engine was
    trained on. Fixed sizes are those that the task asks for without options, and run fastest. A range is for all
    others: a plan costs minutes once, so there is one for each graph, with batches from one image up to what the task
    asks for.
    usual: the size that speed is measured at. signed: inputs of either sign, the others lie in 0..1.
    precise: the task runs it in full precision whatever is asked for.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    plans: tuple[Mapping[str, int | Range], ...]
    usual: Mapping[str, int]
    signed: tuple[str, ...] = ()
    precise: bool = False


def restored_image(diffusion: Diffusion) -> str:
    """What the last x_next is where an image is restored from a low-resolution one, in words."""
    if diffusion.residual_std is None:
        return "The image is (x_next + 1) / 2."
    return f"The image is lr + {diffusion.residual_std:.6g} x_next."


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """The engines of one task. default: the shipped one that its command takes.

    In words, for whoever runs the graphs without us: normalisation: of the inputs. calls: what is called in which
    order (``step`` is the loop). result: what the last x_next is.
    """

    task: str
    default: str
    graphs: Mapping[str, GraphKind]
    normalisation: str
    calls: str
    result: Callable[[Diffusion], str] = restored_image

    def load(self, name_or_path: str) -> Bundle:
        """As ``cmrsr.runtime.bundle.load``, for an engine of the task. EngineError: it is none, or see ``check``."""
        return self.check(load(name_or_path, self.task))

    def check(self, bundle: Bundle) -> Bundle:
        """The bundle itself, if it has all graphs of the task and no others. EngineError: it has not."""
        check_graphs(bundle, self.graphs)
        if unknown := ", ".join(sorted(set(bundle.manifest.graphs) - set(self.graphs))):
            raise _invalid(bundle, f"graph {unknown}, which no engine for {self.task} has")
        return bundle


def check_graphs(bundle: Bundle, graphs: Mapping[str, GraphKind]) -> Bundle:
    """The bundle itself, if it has these graphs with their inputs and outputs. EngineError: it has not."""
    for name, kind in graphs.items():
        if name not in bundle.manifest.graphs:
            raise _invalid(bundle, f"no graph {name}, which an engine for {bundle.manifest.task} needs")
        graph = bundle.manifest.graphs[name]
        for what, ports, names in (("inputs", graph.inputs, kind.inputs), ("outputs", graph.outputs, kind.outputs)):
            found = tuple(port.name for port in ports)
            if found != names:
                raise _invalid(bundle, f"graph {name}: {what} {', '.join(found)}, expected {', '.join(names)}")
    return bundle


def _invalid(bundle: Bundle, problem: str) -> EngineError:
    return EngineError(f"{bundle.path / MANIFEST} is not a valid engine manifest: {problem}; export or install it anew")
