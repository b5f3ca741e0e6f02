"""The part of TensorRT that runs plans: the same names."""

from tensorrt import ExecutionContextAllocationStrategy as ExecutionContextAllocationStrategy
from tensorrt import ICudaEngine as ICudaEngine
from tensorrt import IExecutionContext as IExecutionContext
from tensorrt import ILogger as ILogger
from tensorrt import Runtime as Runtime
from tensorrt import __version__ as __version__
